// Package mcp has the MCP servers of an executor: processes that speak the Model Context Protocol over their standard
// input and output.
//
//	               first request                    says what it is
//	(nothing) ─────────────────────▶ starting ─────────────────────────▶ running ──▶ requests
//	   ▲  ▲                             │ dies, is silent                 │   │
//	   │  └── nothing asked for a while ┼────────────────────────────────┘   │ dies, has said too much
//	   │                                ▼                                     ▼
//	   └───────────────────────────── down, for 1 s and then longer  ◀────────┘
//
// A server runs in the sandbox, like any command: its environment is an allowlist, its processes are found and ended.
// It is tied to the daemon, and ends with it. What it has written to its standard error is kept with the command, and
// its end is told when the server fails.
package mcp

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/mcpclient"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// ErrServer is a server that cannot be started or does not speak the protocol. Nothing was asked of it.
var ErrServer = errs.New(errs.Unavailable, "MCP_SERVER", "the MCP server cannot be used")

// Times and bounds.
const (
	startTimeout = 2 * time.Minute // a server may be downloaded first
	idleAfter    = 10 * time.Minute
	evictEvery   = time.Minute
	downFor      = time.Second
	downAtMost   = time.Minute
	// stable is how long a server has to live for its end not to count as a failed start.
	stable    = 10 * time.Second
	killGrace = 2 * time.Second
	// deafAfter is how long a server may take to read that a request has ended.
	deafAfter  = time.Second
	endTimeout = 30 * time.Second
	maxServers = 32
	// announceAfter is how long changes of a list are gathered.
	announceAfter = 100 * time.Millisecond
	// retireAt is after how many bytes of output a server is replaced once nothing is asked of it, maxOutput when it is
	// ended: its output is captured in files, whose middle is cut beyond 64 MiB.
	retireAt  = 32 << 20
	maxOutput = 60 << 20
	// maxStderr bounds what is told of a server's standard error.
	maxStderr = 1000
)

// Spec is a server.
type Spec struct {
	ID      string             `json:"id"`   // of its definition
	Name    string             `json:"name"` // for people
	Program string             `json:"program"`
	Args    []string           `json:"args"`
	Cwd     string             `json:"cwd"`
	Env     map[string]*string `json:"env"` // nil removes a name
}

// key tells servers apart: definitions, places and environments share none.
func (s Spec) key() string {
	body, err := json.Marshal(s)
	if err != nil {
		panic(err) // every field has a JSON form
	}
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Servers are those of one executor. Methods may be called concurrently.
type Servers struct {
	sb      sandbox.Sandbox
	log     *slog.Logger
	changed func(id string)

	life context.Context // ends with Close
	end  context.CancelFunc
	wg   sync.WaitGroup

	mu       sync.Mutex // guards what follows
	all      map[string]*server
	changing map[string]bool // definitions of which changed is about to be called
}

// New makes Servers. changed is called with the id of a definition when a server says that its list of tools has
// changed.
func New(sb sandbox.Sandbox, log *slog.Logger, changed func(id string)) *Servers {
	s := &Servers{
		sb: sb, log: cmp.Or(log, slog.New(slog.DiscardHandler)), changed: changed, all: map[string]*server{},
		changing: map[string]bool{},
	}
	s.life, s.end = context.WithCancel(context.Background())
	s.wg.Go(s.housekeeping)
	return s
}

// Close ends all servers and waits for that, for a bounded time.
func (s *Servers) Close() {
	s.end()
	s.wg.Wait()
}

// housekeeping ends servers of which nothing was asked for a while, and in the end all.
func (s *Servers) housekeeping() {
	tick := time.NewTicker(evictEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.evict(idleAfter)
		case <-s.life.Done():
			return // sessions end by themselves
		}
	}
}

// announce tells of a change soon, and once for as many as come until then: a server may never stop to announce.
func (s *Servers) announce(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changing[id] {
		return
	}
	s.changing[id] = true
	s.wg.Go(func() {
		err := await.Sleep(s.life, announceAfter)
		s.mu.Lock()
		delete(s.changing, id)
		s.mu.Unlock()
		if err == nil {
			s.changed(id)
		}
	})
}

func (s *Servers) evict(idle time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, one := range s.all {
		if used, rests := one.rests(); rests && time.Since(used) >= idle {
			delete(s.all, key)
			one.stop()
		}
	}
}

// use is a server, and how to say that it is not needed any more.
func (s *Servers) use(spec Spec) (*server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := spec.key()
	one := s.all[key]
	if s.life.Err() != nil {
		return nil, ErrServer.With("the executor ends")
	}
	if one == nil {
		if len(s.all) >= maxServers && !s.makeRoom() {
			return nil, ErrServer.With("%d MCP servers run already, no more can be started", maxServers)
		}
		one = &server{of: s, spec: spec}
		s.all[key] = one
	}
	one.users.Add(1)
	return one, nil
}

// makeRoom forgets the server of which nothing was asked for the longest time, and ends it; false when all are in use.
// mu is held.
func (s *Servers) makeRoom() bool {
	oldest := ""
	var since time.Time
	for key, one := range s.all {
		if used, idle := one.rests(); idle && (oldest == "" || used.Before(since)) {
			oldest, since = key, used
		}
	}
	if oldest == "" {
		return false
	}
	s.all[oldest].stop()
	delete(s.all, oldest)
	return true
}

// Do makes a request to a server, which is started if it does not run. Errors: ErrServer when nothing was asked of it,
// an *mcpclient.Error of kind Answered when it has refused, sandbox.ErrInterrupted when nobody knows what it has done,
// and that of ctx.
func (s *Servers) Do(
	ctx context.Context, spec Spec, r Request,
) (mcpclient.Result, error) {
	if !mcpclient.Known(r.Method) {
		return mcpclient.Result{}, sandbox.ErrInvalidArg.With("the method %q is not known", r.Method)
	}
	one, err := s.use(spec)
	if err != nil {
		return mcpclient.Result{}, err
	}
	defer one.users.Add(-1)
	live, err := one.ready(ctx)
	if err != nil {
		return mcpclient.Result{}, err
	}
	defer live.leave()
	res, err := live.do(ctx, r)
	var e *mcpclient.Error
	switch {
	case err == nil:
		return res, nil
	case errors.As(err, &e) && e.Kind == mcpclient.Answered:
		return res, e
	case errors.As(err, &e) && e.Kind == mcpclient.NotSent:
		return res, ErrServer.With("MCP server %s: %s", spec.Name, e.Message)
	case errors.As(err, &e):
		return res, sandbox.ErrInterrupted.With("MCP server %s has not answered: %s%s", spec.Name, e.Message,
			live.lastWords())
	case errors.Is(err, context.DeadlineExceeded):
		return res, sandbox.ErrInterrupted.With("MCP server %s did not answer in time, and was told to stop", spec.Name)
	}
	return res, err
}

// Request is a request of the protocol.
type Request struct {
	Method   string
	Params   []byte
	Progress func(mcpclient.Progress)
}

// line is a program and its arguments as a command line.
func line(program string, args []string) string {
	words := make([]string, 0, len(args)+2)
	words = append(words, "exec", quote(program))
	for _, a := range args {
		words = append(words, quote(a))
	}
	return strings.Join(words, " ")
}

func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
