package mcp

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/mcpclient"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// server is a server that is wanted, whether it runs or not.
type server struct {
	of    *Servers
	spec  Spec
	users atomic.Int32

	mu       sync.Mutex // guards what follows
	live     *process
	starting chan struct{} // closed when a start has come to something
	failed   error         // of the last start
	failures int           // in a row
	until    time.Time     // before which it is not started again
	used     time.Time
}

// rests is since when nothing was asked of the server; false while something is, and while it starts.
func (s *server) rests() (since time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used, s.users.Load() == 0 && s.starting == nil
}

// stop ends the process, if there is one.
func (s *server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live != nil {
		s.live.cancel()
		s.live = nil
	}
}

// ready is the process, which is started if there is none. What is started goes on when ctx ends: whoever comes next
// finds it.
func (s *server) ready(ctx context.Context) (*process, error) {
	for {
		s.mu.Lock()
		s.used = time.Now()
		if p := s.live; p != nil && p.join() {
			s.mu.Unlock()
			return p, nil
		}
		if s.starting == nil {
			if s.failed != nil && time.Now().Before(s.until) {
				defer s.mu.Unlock()
				return nil, s.failed
			}
			done := make(chan struct{})
			s.starting, s.failed, s.live = done, nil, nil
			s.of.wg.Go(func() { s.start(done) })
		}
		starting := s.starting
		s.mu.Unlock()
		select {
		case <-starting:
		case <-ctx.Done():
			return nil, ErrServer.With("MCP server %s has not started yet; what was asked of it was not sent",
				s.spec.Name)
		case <-s.of.life.Done():
			return nil, ErrServer.With("the executor ends")
		}
	}
}

// start starts a process and tells whoever waits.
func (s *server) start(done chan struct{}) {
	p, err := s.launch()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starting = nil
	close(done)
	if err == nil {
		s.live = p
		s.of.wg.Go(func() { s.tend(p) })
		return
	}
	s.failed = err
	s.pause()
	// What it has written is told to whoever has asked, for whom it is redacted: it may repeat its environment.
	s.of.log.Warn("a server of tools could not be started", "server", s.spec.Name)
}

// pause makes the next start wait, longer with each failure. mu is held.
func (s *server) pause() {
	s.until = time.Now().Add(min(downFor<<min(s.failures, 10), downAtMost))
	s.failures++
}

// process is a server that runs.
type process struct {
	conn    *mcpclient.Conn
	ex      sandbox.Exec
	id      string
	out     *output
	began   time.Time
	life    context.Context
	cancel  context.CancelFunc
	mu      sync.Mutex // guards what follows
	users   int
	retired bool
}

// join takes part in the process; false when it is over, or is to be replaced.
func (p *process) join() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.conn.Closed():
		return false
	case <-p.life.Done():
		return false
	default:
	}
	if p.retired = p.retired || p.out.read.Load() > retireAt; p.retired {
		if p.users == 0 {
			p.cancel()
		}
		return false
	}
	p.users++
	return true
}

func (p *process) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users--; p.retired && p.users == 0 {
		p.cancel()
	}
}

// do makes a request. The library waits until the server has read it, whatever becomes of ctx: a server that reads
// nothing more is ended, and with it whoever waits for that.
func (p *process) do(ctx context.Context, r Request) (res mcpclient.Result, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		res, err = p.conn.Do(ctx, r.Method, r.Params, r.Progress)
	}()
	select {
	case <-done:
		return res, err
	case <-ctx.Done():
	}
	late := time.NewTimer(deafAfter)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
		p.cancel()
		<-done
	}
	return res, err
}

// lastWords is the end of what the server has written to its standard error.
func (p *process) lastWords() string { return lastWords(p.ex) }

func lastWords(ex sandbox.Exec) string {
	text := make([]byte, maxStderr)
	n, err := ex.ReadOutput(sandbox.Stderr, text, max(0, ex.Size(sandbox.Stderr)-maxStderr))
	if said := strings.TrimSpace(string(text[:n])); said != "" && (err == nil || errors.Is(err, io.EOF)) {
		return "; it has written: " + strings.ToValidUTF8(said, "\uFFFD")
	}
	return ""
}

// launch starts the process and makes the session.
func (s *server) launch() (*process, error) {
	ctx, cancel := context.WithTimeout(s.of.life, startTimeout)
	defer cancel()
	in, feed := io.Pipe()
	p := &process{id: "mcp-" + ident.New(), began: time.Now()}
	var err error
	p.ex, err = s.of.sb.Start(ctx, p.id, sandbox.Command{
		Line: line(s.spec.Program, s.spec.Args), Cwd: s.spec.Cwd, Env: s.spec.Env, Stdin: in, Tied: true,
	})
	if err != nil {
		_ = feed.Close()
		return nil, ErrServer.With("MCP server %s cannot be started: %v", s.spec.Name, err)
	}
	p.life, p.cancel = context.WithCancel(s.of.life)
	p.out = &output{ex: p.ex, closed: make(chan struct{})}
	p.conn, err = mcpclient.Connect(ctx, &sdk.IOTransport{
		Reader: mcpclient.Throttle(p.out), Writer: feed, MaxLineLength: mcpclient.MaxMessage + 1<<20,
	}, mcpclient.Options{Changed: func() { s.of.announce(s.spec.ID) }})
	if err != nil {
		said := lastWords(p.ex)
		p.cancel()
		_ = feed.Close()
		s.end(p)
		return nil, ErrServer.With("MCP server %s does not speak the protocol: %v%s", s.spec.Name, err, said)
	}
	return p, nil
}

// tend waits until a process is over, or is to be, and cleans up behind it.
func (s *server) tend(p *process) {
	select {
	case <-p.conn.Closed():
	case <-p.ex.Done():
	case <-p.life.Done():
	}
	wanted := p.life.Err() == nil
	p.cancel()
	s.mu.Lock()
	if s.live == p {
		s.live = nil
	}
	if wanted {
		if time.Since(p.began) >= stable {
			s.failures = 0
		}
		s.failed = ErrServer.With("MCP server %s has ended%s", s.spec.Name, p.lastWords())
		s.pause()
		s.of.log.Warn("a server of tools has ended", "server", s.spec.Name)
	}
	s.mu.Unlock()
	closed := make(chan struct{})
	go func() { // it may wait for requests under way, which end with the process
		defer close(closed)
		_ = p.conn.Close()
	}()
	s.end(p)
	<-closed
}

// end ends the processes of a server and forgets its output.
func (s *server) end(p *process) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.of.life), endTimeout)
	defer cancel()
	if err := p.ex.Kill(ctx, killGrace); err != nil {
		s.of.log.Warn("a server of tools could not be ended, it ends with the executor", "server", s.spec.Name,
			"error", err)
	}
	if err := s.of.sb.Forget(ctx, p.id); err != nil && !errors.Is(err, sandbox.ErrUnknownExec) {
		s.of.log.Warn("the output of a server of tools could not be forgotten", "server", s.spec.Name, "error", err)
	}
}

// output reads the standard output of a command as it comes.
type output struct {
	ex     sandbox.Exec
	read   atomic.Int64
	once   sync.Once
	closed chan struct{}
}

var errFlood = errors.New("the server has written too much")

func (o *output) Read(b []byte) (int, error) {
	for {
		off := o.read.Load()
		if off > maxOutput {
			return 0, errFlood
		}
		changed := o.ex.Changed()
		n, err := o.ex.ReadOutput(sandbox.Stdout, b, off)
		if n > 0 || err != nil {
			o.read.Add(int64(n))
			return n, err
		}
		select {
		case <-changed:
		case <-o.ex.Done():
		case <-o.closed:
			return 0, io.ErrClosedPipe
		}
	}
}

func (o *output) Close() error {
	o.once.Do(func() { close(o.closed) })
	return nil
}
