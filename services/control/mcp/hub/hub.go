// Package hub has the sessions of control with MCP servers over streamable HTTP.
//
// All loops of one tenant share a session with a server, as long as its definition is the same:
//
//	                first use                          answers
//	(nothing) ─────────────────▶ connecting ─────────────────────▶ connected ──▶ list, calls
//	    ▲  ▲                         │ refuses, is silent            │   │
//	    │  └── idle for 5 minutes ───┼───────────────────────────────┘   │ the session is over
//	    │                            ▼                                   ▼
//	    └───────────────────────── down, for 15 s and then longer ◀── connect again, at once
//
// A server that is down costs its tools: List says why, soon, and the loop goes on without. A call whose answer is lost
// is unknown unless it may be made again; then it is, within bounds. A call that has not left this process is always
// made again.
package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/time/rate"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/mcpclient"
	"github.com/pawl-dev/pawl/services/control/egress"
	"github.com/pawl-dev/pawl/services/control/mcp"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// Times.
const (
	connectTimeout = 10 * time.Second // to make a session, and to list tools
	listTimeout    = 10 * time.Second
	idleAfter      = 5 * time.Minute
	evictEvery     = time.Minute
	// listAge is how long the list of a server is good that does not announce changes.
	listAge = time.Minute
	// downFor is how long a server that could not be reached is not tried again, at first, and at most.
	downFor     = 15 * time.Second
	downAtMost  = 5 * time.Minute
	maxAttempts = 3 // of one request
	// A list that the server says has changed is asked for again at once for relistBurst times, and then once in
	// relistEvery: one that never stops saying so costs no more than that, however many loops use it.
	relistEvery = 10 * time.Second
	relistBurst = 3
	// maxHeld is how many bytes of lists and resources a session reads before it is replaced: the library keeps them.
	maxHeld = 32 << 20
)

// ErrDown is that a server cannot be reached.
var ErrDown = errs.New(errs.Unavailable, "MCP_SERVER_DOWN", "the MCP server cannot be reached")

// errAnswer is an error that a server has answered with.
var errAnswer = errs.New(errs.FailedPrecondition, "MCP_ERROR", "the MCP server has answered with an error")

// Deps are what a Hub works with.
type Deps struct {
	Lookup  func(name string) (string, bool) // of variables that definitions refer to
	Client  egress.Client                    // its Networks, Redirect and MaxBody are replaced
	Version string
	Log     *slog.Logger
}

// Hub has the sessions. Its methods may be called concurrently.
type Hub struct {
	deps    Deps
	life    context.Context // ends with Run; requests end with it
	end     context.CancelFunc
	closing sync.WaitGroup // sessions that are ended
	held    int64          // maxHeld

	mu      sync.Mutex // guards what follows
	servers map[key]*server
	closed  bool
}

// key tells sessions apart: tenants share none.
type key struct{ tenant, digest string }

// New makes a Hub.
func New(d Deps) *Hub {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	life, end := context.WithCancel(context.Background())
	return &Hub{deps: d, life: life, end: end, held: maxHeld, servers: map[key]*server{}}
}

// Run ends sessions that nobody has used for a while, until ctx ends. Then it ends all.
func (h *Hub) Run(ctx context.Context) error {
	tick := time.NewTicker(evictEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			h.evict(idleAfter)
		case <-ctx.Done():
			h.mu.Lock()
			h.closed = true
			h.mu.Unlock()
			h.end()
			h.evict(-1)
			h.closing.Wait()
			return nil
		}
	}
}

// evict ends sessions that are idle for so long; a negative time ends those in use too.
func (h *Hub) evict(idle time.Duration) {
	h.mu.Lock()
	var gone []*server
	for k, s := range h.servers {
		if idle < 0 || s.users == 0 && time.Since(s.used) >= idle {
			delete(h.servers, k)
			gone = append(gone, s)
		}
	}
	h.mu.Unlock()
	for _, s := range gone {
		s.lock <- struct{}{}
		s.disconnect()
		<-s.lock
	}
}

// use is the server of a definition for a tenant. release is to be called when it is not needed any more.
func (h *Hub) use(tenant string, d mcp.Definition) (s *server, release func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := key{tenant, d.Digest()}
	if s = h.servers[k]; s == nil {
		s = &server{
			hub: h, def: d, lock: make(chan struct{}, 1),
			relist: rate.NewLimiter(rate.Every(relistEvery), relistBurst),
		}
		s.pause.InitialInterval, s.pause.MaxInterval, s.pause.Multiplier = downFor, downAtMost, 2
		s.pause.RandomizationFactor = 0.2
		if !h.closed {
			h.servers[k] = s
		}
	}
	s.users++
	return s, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		s.users--
		s.used = time.Now()
	}
}

// List is what a server lists now. It waits for one that is not connected, for a bounded time. An error is why there is
// no list; it has a reason.
func (h *Hub) List(ctx context.Context, tenant string, d mcp.Definition) (mcp.List, error) {
	s, release := h.use(tenant, d)
	defer release()
	if err := s.acquire(ctx); err != nil {
		return mcp.List{}, err
	}
	defer s.release()
	conn, err := s.connected(ctx)
	if err != nil {
		return mcp.List{}, err
	}
	return s.listed(ctx, conn)
}

// version changes when what List would return may have changed, and may be asked for. It does not wait, and asks
// nobody.
func (h *Hub) version(tenant string, d mcp.Definition) string {
	h.mu.Lock()
	s := h.servers[key{tenant, d.Digest()}]
	h.mu.Unlock()
	if s == nil {
		return ""
	}
	s.known.Lock()
	defer s.known.Unlock()
	if s.conn != nil && s.conn.Generation() != s.generation && s.relist.Tokens() >= 1 {
		return fmt.Sprintf("%s+%d", s.digest, s.conn.Generation())
	}
	return s.digest
}

// Request is a request to a server for a tenant.
type Request struct {
	Tenant string
	Server mcp.Definition
	Method string
	Params []byte
	Safety tool.Safety
}

// Do makes a request and makes it again where that is safe. progress may be nil. Errors have reasons and are meant for
// the model: tool.ReasonInterrupted is the one of a request whose outcome is unknown. The error of ctx is returned as
// it is.
func (h *Hub) Do(ctx context.Context, r Request, progress func(mcpclient.Progress)) (mcpclient.Result, error) {
	s, release := h.use(r.Tenant, r.Server)
	defer release()
	limit, cancel := context.WithTimeout(ctx, r.Server.CallTimeout())
	defer cancel()
	defer context.AfterFunc(h.life, cancel)()
	pause := backoff.ExponentialBackOff{
		InitialInterval: 200 * time.Millisecond, Multiplier: 3, RandomizationFactor: 0.5, MaxInterval: 5 * time.Second,
	}
	for attempt := 1; ; attempt++ {
		res, err := s.try(limit, r, progress)
		if err == nil || ctx.Err() != nil {
			return res, cmp.Or(ctx.Err(), err)
		}
		again, failure := s.judge(limit, r, err)
		if !again || attempt == maxAttempts || limit.Err() != nil {
			return mcpclient.Result{}, failure
		}
		if await.Sleep(limit, pause.NextBackOff()) != nil {
			return mcpclient.Result{}, cmp.Or(ctx.Err(), failure)
		}
	}
}

// judge says what an error means for the model, and whether the request may be made again.
func (s *server) judge(limit context.Context, r Request, err error) (again bool, failure error) {
	name := s.def.Name
	var e *mcpclient.Error
	if limit.Err() != nil {
		if errors.As(err, &e) && e.Kind == mcpclient.NotSent || errors.Is(err, ErrDown) {
			return false, ErrDown.With("the call was not made: %v", err)
		}
		return false, unknown.With("the MCP server %s did not answer within %s, and was told to stop", name,
			s.def.CallTimeout())
	}
	if !errors.As(err, &e) {
		return false, err // it is down, and was tried already or not long ago
	}
	switch e.Kind {
	case mcpclient.Answered:
		f := mcp.Refused(r.Method, e.Code, e.Message)
		return false, errAnswer.With("%s", f.Message)
	case mcpclient.NotSent:
		return true, ErrDown.With("the call was not made, because MCP server %s cannot be reached: %s", name, e.Message)
	case mcpclient.Refused:
		return e.Code == 404 || e.Code == 429, ErrDown.With("the call was not made: MCP server %s: %s", name, e.Message)
	}
	return r.Safety != tool.AtMostOnce, unknown.With("the answer of the MCP server %s was lost: %s", name, e.Message)
}

// unknown is an outcome that nobody knows.
var unknown = errs.New(errs.Aborted, tool.ReasonInterrupted, "the outcome is unknown")
