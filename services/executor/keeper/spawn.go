package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// link is a connection to a keeper that was greeted.
type link struct {
	nc *net.UnixConn
	hello

	mu sync.Mutex // one frame at a time
}

func (l *link) send(m *message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	// A keeper always reads; one that does not is stopped or stuck, and its socket buffer is full.
	l.nc.SetWriteDeadline(time.Now().Add(greetTimeout))
	return writeMessage(l.nc, m)
}

// connect reaches the keeper of dir, and starts one if none lives. The caller bounds ctx.
func connect(ctx context.Context, dir string, o *Options) (*link, error) {
	for {
		l, err := dial(ctx, dir, o.Version)
		if err == nil {
			return l, nil
		}
		if ctx.Err() != nil {
			return nil, sandbox.ErrUnavailable.With("reaching the keeper of %s: %v", dir,
				errors.Join(context.Cause(ctx), err))
		}
		if !isAbsent(err) {
			return nil, sandbox.ErrUnavailable.With("reaching the keeper of %s: %v", dir, err)
		}
		held, err := locked(dir)
		if err != nil {
			return nil, sandbox.ErrUnavailable.With("reaching the keeper of %s: %v", dir, err)
		}
		if !held {
			if err := spawn(ctx, dir, o); err != nil {
				return nil, sandbox.ErrUnavailable.With("starting the keeper of %s: %v", dir, err)
			}
			continue
		}
		// It is starting or ending. Nobody tells; look again soon.
		_ = await.Sleep(ctx, 5*time.Millisecond+rand.N(5*time.Millisecond)) // dial looks at ctx
	}
}

// isAbsent tells whether an error of dial means that no keeper was there to answer.
func isAbsent(err error) bool {
	absent := []error{unix.ENOENT, unix.ECONNREFUSED, unix.ECONNRESET, unix.EPIPE, io.EOF, io.ErrUnexpectedEOF}
	return slices.ContainsFunc(absent, func(e error) bool { return errors.Is(err, e) })
}

// dial connects and waits to be greeted: while another daemon is connected, the keeper does not.
func dial(ctx context.Context, dir, version string) (*link, error) {
	addr, release, err := socketAddr(dir)
	if err != nil {
		return nil, err
	}
	defer release()
	c, err := new(net.Dialer).DialContext(ctx, "unix", addr.Name)
	if err != nil {
		return nil, err
	}
	nc := c.(*net.UnixConn)
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	l, err := greetKeeper(nc, version)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return l, nil
}

func greetKeeper(nc *net.UnixConn, version string) (*link, error) {
	m, err := readMessage(nc)
	if err != nil {
		return nil, fmt.Errorf("waiting for its greeting: %w", err)
	}
	if m.Kind != kindHello || m.Hello == nil {
		return nil, fmt.Errorf("it does not greet")
	}
	h := *m.Hello
	proto := min(maxProto, h.Proto)
	if proto < minProto || proto < h.MinProto {
		return nil, fmt.Errorf("keeper %q speaks protocols %d to %d, this daemon (%q) %d to %d: let its commands end "+
			"first", h.Version, h.MinProto, h.Proto, version, minProto, maxProto)
	}
	l := &link{nc: nc, hello: h}
	mine := &hello{Proto: proto, MinProto: minProto, Version: version}
	if err := l.send(&message{Kind: kindHello, Hello: mine}); err != nil {
		return nil, err
	}
	if h.Version != version {
		return l, l.send(&message{Kind: kindRetire})
	}
	return l, nil
}

// spawned remembers the keepers that this process started: it has to reap those that ended before it.
var spawned struct {
	mu   sync.Mutex
	pids []int
}

func reapSpawned() {
	spawned.mu.Lock()
	defer spawned.mu.Unlock()
	var alive []int
	for _, pid := range spawned.pids {
		if got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); got == 0 && err == nil {
			alive = append(alive, pid)
		}
	}
	spawned.pids = alive
}

// maxOut is the length at which keeper.out is begun anew.
const maxOut = 1 << 20

// spawn starts a keeper in its own session and waits until it serves, or somebody else's does.
func spawn(ctx context.Context, dir string, o *Options) error {
	reapSpawned()
	cfg := config{Version: o.Version, OrphanGrace: o.OrphanGrace, Idle: o.Idle, StreamCap: o.StreamCap}
	args, err := argv(os.Args[0], dir, cfg)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "keeper.out")
	if st, err := os.Stat(path); err == nil && st.Size() > maxOut {
		os.Truncate(path, 0)
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	p, err := os.StartProcess(o.Exe, args, &os.ProcAttr{
		Env:   []string{}, // what this daemon was configured with is none of its business
		Files: []*os.File{null, out, out, w},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	w.Close()
	if err != nil {
		return err
	}
	spawned.mu.Lock()
	spawned.pids = append(spawned.pids, p.Pid)
	spawned.mu.Unlock()
	p.Release()

	stop := context.AfterFunc(ctx, func() { r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	answer, err := io.ReadAll(io.LimitReader(r, 4096))
	switch {
	case err != nil:
		return fmt.Errorf("waiting for it to serve: %w", errors.Join(context.Cause(ctx), err))
	case string(answer) == readyOK, string(answer) == readyBusy:
		return nil
	case len(answer) == 0:
		return fmt.Errorf("it ended at once; %s may tell why (does main ask keeper.Invoked first?)", path)
	}
	return errors.New(string(answer))
}

// Argument zero names the data directory in the list of processes, too.
func argv(exe, dir string, cfg config) ([]string, error) {
	b, err := json.Marshal(cfg)
	if err != nil {
		return nil, fmt.Errorf("encoding the configuration: %w", err)
	}
	return []string{exe, argument, dir, string(b)}, nil
}
