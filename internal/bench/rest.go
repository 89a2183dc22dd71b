package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/ident"
)

// settleDown is how long a process is left alone before its memory at rest is read: what it will give back, it has
// given back, see memlimit.Release.
const settleDown = 12 * time.Second

// quiet is the most processor time that a process uses in a second that has nothing to do.
const quiet = 50 * time.Millisecond

// atRest is a control plane's resident memory after a while without work. What it still does, such as to fill the
// buffers of new watchers, it does first.
func (p *plane) atRest(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for last, busy := time.Duration(0), true; busy; {
		if err := wait(ctx, time.Second); err != nil {
			return 0, err
		}
		used, err := cpu(p.Pid())
		if err != nil {
			return 0, err
		}
		busy, last = used-last > quiet, used
	}
	if err := wait(ctx, settleDown); err != nil {
		return 0, err
	}
	return memory(p.Pid(), "VmRSS")
}

// wait lets time pass, where time is what is measured.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// rest measures the memory of a control plane that does nothing: at first, and after sessions came and went.
func rest(ctx context.Context, r *run) error {
	p, err := r.plane(ctx)
	if err != nil {
		return err
	}
	idle, err := p.atRest(ctx)
	if err != nil {
		return err
	}
	anonymous, err := memory(p.Pid(), "RssAnon")
	if err != nil {
		return err
	}
	r.add(Row{What: "idle RSS, with the built-in executor", P50: bytes(idle), Goal: most(P50, 20e6)})
	r.add(Row{What: "… of it anonymous", P50: bytes(anonymous)})
	few, many := r.some(1000, 200), r.some(5000, 1000)
	var rss [2]int64
	for i, sessions := range []int{few, many - few} {
		if _, err := r.prompting(ctx, p, 16, sessions, func() string { return "shell/" + ident.New() }); err != nil {
			return err
		}
		if rss[i], err = p.atRest(ctx); err != nil {
			return err
		}
	}
	first := Row{What: fmt.Sprintf("RSS after %d sessions, at rest", few), P50: bytes(rss[0]), Floor: bytes(idle)}
	second := Row{What: fmt.Sprintf("RSS after %d sessions, at rest", many), P50: bytes(rss[1]), Floor: bytes(rss[0])}
	if r.database != Memory {
		first.Goal, second.Goal = most(Over, 10e6), most(Over, 1e6)
	}
	r.add(first)
	r.add(second)
	r.add(Row{What: "RSS per 1,000 sessions more", P50: bytes((rss[1] - rss[0]) * 1000 / int64(many-few))})
	return nil
}

// sockets measures what a connection costs that is open and does nothing.
func sockets(ctx context.Context, r *run) error {
	p, err := r.plane(ctx, "--executor", "none")
	if err != nil {
		return err
	}
	before, err := p.atRest(ctx)
	if err != nil {
		return err
	}
	token, err := p.Token()
	if err != nil {
		return err
	}
	n := r.some(2000, 200)
	// The path is one that needs a token: silent connections on which nobody has shown one are closed. The answer is
	// that there is no such page.
	request := fmt.Sprintf("GET /v1/nothing HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", p.HTTP, token)
	conns := make([]net.Conn, n)
	ask := func(i int) error {
		if _, err := io.WriteString(conns[i], request); err != nil {
			return err
		}
		_, err := conns[i].Read(make([]byte, 4096))
		return err
	}
	for i := range conns {
		if conns[i], err = new(net.Dialer).DialContext(ctx, "tcp", p.HTTP); err != nil {
			return err
		}
		r.atEnd(conns[i].Close)
		if err := ask(i); err != nil {
			return err
		}
	}
	after, err := p.atRest(ctx)
	if err != nil {
		return err
	}
	for i := range conns {
		if err := ask(i); err != nil {
			return fmt.Errorf("connection %d of %d was not open any more: %w", i, n, err)
		}
	}
	r.add(Row{What: "RSS per idle HTTP connection", P50: bytes((after - before) / int64(n)), Goal: most(P50, 16<<10)})
	return nil
}

// silent measures what a watcher holds that reads nothing of a session with 50 MB of output. Each has a connection of
// its own.
func silent(ctx context.Context, r *run) error {
	p, err := r.plane(ctx)
	if err != nil {
		return err
	}
	key := &pawlv1.SessionKey{Agent: "shell", Instance: "loud", Session: "default"}
	loud, err := follow(ctx, p.conn, key, fmt.Sprintf("yes %s | head -c 50000000", words(99)))
	if err != nil {
		return err
	}
	before, err := p.atRest(ctx)
	if err != nil {
		return err
	}
	n := r.some(200, 20)
	for range n {
		conn, err := p.Dial()
		if err != nil {
			return err
		}
		r.atEnd(conn.Close)
		if _, err := pawlv1.NewSessionServiceClient(conn).WatchSession(ctx,
			&pawlv1.WatchSessionRequest{SessionId: loud.settled.GetSessionId()}); err != nil {
			return err
		}
	}
	after, err := p.atRest(ctx)
	if err != nil {
		return err
	}
	r.add(Row{
		What: "RSS per watcher that reads nothing", P50: bytes((after - before) / int64(n)),
		Goal: most(P50, 256<<10),
	})
	return nil
}
