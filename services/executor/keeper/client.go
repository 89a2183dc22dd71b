package keeper

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// Options of Ensure. The zero value is useful.
type Options struct {
	// Version of the program. A keeper of another one is replaced once it holds nothing.
	Version string
	// OrphanGrace is how long commands live on without a daemon; 0 is an hour.
	OrphanGrace time.Duration
	// Idle is how long a keeper that holds nothing waits for a daemon; 0 is 10 s.
	Idle time.Duration
	// StreamCap is how many bytes of each output are kept; 0 is 64 MiB, at least 4 KiB.
	StreamCap int64
	// StartTimeout bounds every wait for a keeper to answer; 0 is 10 s.
	StartTimeout time.Duration
	// Exe is the program to start as a keeper; "" is this one, even if its file was replaced since.
	Exe string
	Log *slog.Logger
}

func (o Options) withDefaults() *Options {
	o.OrphanGrace = cmp.Or(o.OrphanGrace, time.Hour)
	o.Idle = cmp.Or(o.Idle, 10*time.Second)
	o.StreamCap = max(cmp.Or(o.StreamCap, 64<<20), 4<<10)
	o.StartTimeout = cmp.Or(o.StartTimeout, 10*time.Second)
	o.Exe = cmp.Or(o.Exe, "/proc/self/exe")
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	return &o
}

// Client is the daemon's end. It holds one connection, makes it anew when it breaks, and then finds out what became of
// every command that is not finished. Commands do not notice.
//
//	away ──connect (starts a keeper if none lives), attach to all──▶ connected ──the link breaks──▶ away
type Client struct {
	dir    string
	o      *Options
	cancel context.CancelFunc
	closed chan struct{} // run ended

	mu      sync.Mutex
	link    *link                     // nil while away
	problem error                     // why we are away, once connecting failed
	change  chan struct{}             // closed when one of the two changes
	seq     uint64                    // of requests
	waiting map[uint64]func(*message) // requests without an answer; nil tells that it will not come
	cmds    map[string]*Cmd           // not finished
}

// errLinkLost ends requests whose answer will not come; whoever asked asks again.
var errLinkLost = errors.New("keeper: the connection was lost")

// Open makes a client of the keeper of dir and returns at once; connecting, and starting a keeper if none lives, goes
// on in the background. dir is made if it is missing. The caller closes the client; the keeper stays.
func Open(dir string, opts Options) (*Client, error) {
	o := opts.withDefaults()
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, sandbox.ErrInvalidArg.With("data directory: %v", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, sandbox.ErrUnavailable.With("making the data directory: %v", err)
	}
	life, end := context.WithCancel(context.Background())
	c := &Client{
		dir: dir, o: o, cancel: end, closed: make(chan struct{}), change: make(chan struct{}),
		waiting: map[uint64]func(*message){}, cmds: map[string]*Cmd{},
	}
	go c.run(life)
	return c, nil
}

// Close leaves the keeper and its commands to the next daemon.
func (c *Client) Close() error {
	c.cancel()
	<-c.closed
	return nil
}

// Witness names the keeper's process, "" while none is connected. A keeper knows every command that it was asked to
// start. Who finds the same witness before and after knows that a command which the keeper does not know was not
// started in between. Another keeper reads what its predecessor wrote, and that may be a copy, or older than what
// happened.
func (c *Client) Witness() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link == nil {
		return ""
	}
	return c.link.Keeper
}

func (c *Client) run(ctx context.Context) {
	defer close(c.closed)
	for {
		l := c.reconnect(ctx)
		if l == nil {
			return
		}
		c.found(l)
		stop := context.AfterFunc(ctx, func() { l.nc.Close() })
		c.read(l)
		stop()
		l.nc.Close()
		c.lost()
	}
}

// setLink sets what is known of the link and tells all who wait for that. The caller holds mu.
func (c *Client) setLink(l *link, problem error) {
	c.link, c.problem = l, problem
	close(c.change)
	c.change = make(chan struct{})
}

// read takes in what the keeper says until it says no more.
func (c *Client) read(l *link) {
	for {
		m, err := readMessage(l.nc)
		if err != nil {
			return
		}
		switch m.Kind {
		case kindEvent:
			c.update(m.State)
		case kindReply:
			c.mu.Lock()
			w := c.waiting[m.Seq]
			delete(c.waiting, m.Seq)
			c.mu.Unlock()
			if w != nil {
				w(m)
			}
		}
	}
}

func (c *Client) update(s *state) {
	if s == nil {
		return
	}
	c.mu.Lock()
	cmd := c.cmds[s.ID]
	if s.End != nil {
		delete(c.cmds, s.ID)
	}
	c.mu.Unlock()
	if cmd != nil {
		cmd.update(s)
	}
}

func (c *Client) lost() {
	c.mu.Lock()
	c.setLink(nil, nil)
	waiting := c.waiting
	c.waiting = map[uint64]func(*message){}
	c.mu.Unlock()
	for _, w := range waiting {
		w(nil)
	}
}

func (c *Client) reconnect(ctx context.Context) *link {
	for delay := 10 * time.Millisecond; ; delay = min(2*delay, 5*time.Second) {
		if ctx.Err() != nil {
			return nil
		}
		try, cancel := context.WithTimeout(ctx, c.o.StartTimeout)
		l, err := connect(try, c.dir, c.o)
		cancel()
		if err == nil {
			return l
		}
		if ctx.Err() == nil {
			c.o.Log.Error("the keeper cannot be reached", "dir", c.dir, "err", err)
		}
		c.mu.Lock()
		c.setLink(nil, err)
		c.mu.Unlock()
		_ = await.Sleep(ctx, delay/2+rand.N(delay/2)) // the loop looks at ctx
	}
}

// found begins with a new link: whatever is not finished is asked for again. Answers come to read, as to everybody.
func (c *Client) found(l *link) {
	c.mu.Lock()
	c.setLink(l, nil)
	var again []*Cmd
	for _, cmd := range c.cmds {
		if cmd.started {
			again = append(again, cmd)
		}
	}
	c.mu.Unlock()
	for _, cmd := range again {
		err := c.post(l, &message{Kind: kindAttach, ID: cmd.id}, func(m *message) {
			switch {
			case m == nil: // lost again; the next link asks
			case m.Err != nil:
				// It ran, and a keeper that does not know of it has lost its log: nobody knows its end.
				c.update(&state{ID: cmd.id, End: &end{Code: -1, Interrupted: true, Ended: now()}})
			default:
				c.update(m.State)
			}
		})
		if err != nil {
			return // read sees it too
		}
	}
}

// post sends a request; w gets the answer from read. On an error w is never called.
func (c *Client) post(l *link, m *message, w func(*message)) error {
	c.mu.Lock()
	if c.link != l {
		c.mu.Unlock()
		return errLinkLost
	}
	c.seq++
	m.Seq = c.seq
	c.waiting[m.Seq] = w
	c.mu.Unlock()
	err := l.send(m)
	if err == nil {
		return nil
	}
	if !errors.Is(err, sandbox.ErrTooLarge) {
		l.nc.Close() // half a frame may be out: this link is done
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting[m.Seq] == nil {
		return nil // lost told w already
	}
	delete(c.waiting, m.Seq)
	return err
}

// current waits for a link other than bad, or for the news that there is none to be had.
func (c *Client) current(ctx context.Context, bad *link) (*link, error) {
	t := time.NewTimer(c.o.StartTimeout)
	defer t.Stop()
	for {
		c.mu.Lock()
		l, change, problem := c.link, c.change, c.problem
		c.mu.Unlock()
		if l != nil && l != bad {
			return l, nil
		}
		if problem != nil {
			return nil, problem
		}
		select {
		case <-change:
		case <-c.closed:
			return nil, sandbox.ErrUnavailable.With("the keeper's client is closed")
		case <-ctx.Done():
			return nil, sandbox.FromContext(ctx)
		case <-t.C:
			return nil, sandbox.ErrUnavailable.With("the keeper of %s does not answer", c.dir)
		}
	}
}

// ask sends a request until it is answered. All requests may be repeated: a start of a known id attaches to it.
func (c *Client) ask(ctx context.Context, m message) (*message, error) {
	return c.askAnd(ctx, m, func(*message) {})
}

// askAnd calls heard with a good answer before any later message is read, and before a next link is made.
func (c *Client) askAnd(ctx context.Context, m message, heard func(*message)) (*message, error) {
	var bad *link
	for {
		if ctx.Err() != nil {
			return nil, sandbox.FromContext(ctx)
		}
		l, err := c.current(ctx, bad)
		if err != nil {
			return nil, err
		}
		if l.Proto < m.Spec.proto() {
			return nil, sandbox.ErrUnavailable.With("the keeper %q is of an earlier version, which cannot run this: "+
				"try again when its commands have ended", l.Version)
		}
		answer := make(chan *message, 1)
		request := m
		err = c.post(l, &request, func(r *message) {
			if r != nil && r.Err == nil {
				heard(r)
			}
			answer <- r
		})
		if errors.Is(err, sandbox.ErrTooLarge) {
			return nil, err
		}
		if err != nil {
			bad = l
			continue
		}
		select {
		case r := <-answer:
			if r == nil {
				bad = l
				continue
			}
			if r.Err != nil {
				return nil, r.Err.err()
			}
			return r, nil
		case <-ctx.Done():
			return nil, sandbox.FromContext(ctx)
		}
	}
}
