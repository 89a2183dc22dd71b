package work

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/services/executor/journal"
	"github.com/pawl-dev/pawl/services/executor/mcp"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

const (
	// DefaultSlots is how many calls run at once when nobody says otherwise.
	DefaultSlots = 64
	// DefaultWindow is the credit of a stream when control names none.
	DefaultWindow = 1 << 20
	// maxChunk is the most bytes that an Output carries: with what is around it, here and in the events that control
	// makes of it, it fits into gRPC's buffers of 32 KiB. The next larger ones have a megabyte, and whoever waits holds
	// one.
	maxChunk = 31 << 10
	// looseSlots is how many calls of no lane run at once.
	looseSlots = 32
	// linger is how long a result waits for a watcher that gives no credit.
	linger = 250 * time.Millisecond
	// attachWait is how long the result of a call with output waits for an Attach on a new connection.
	attachWait = time.Second
	// sweepEvery is how often the journal is swept, reapDelay how long acknowledged commands gather before one fsync
	// for all.
	sweepEvery = time.Minute
	reapDelay  = 100 * time.Millisecond
	// ackPause is how long after an acknowledgement that could not be recorded it is tried again.
	ackPause = time.Second
	// askTimeout bounds one question to the sandbox, askPause is between two.
	askTimeout = 30 * time.Second
	askPause   = time.Second
	// closeWait bounds how long Close waits for what hangs in a file system.
	closeWait = 5 * time.Second
	// defaultGrace is from TERM to KILL when a Cancel names none.
	defaultGrace = 2 * time.Second
)

// Config of a Service. Sandbox and Journal are required.
type Config struct {
	Sandbox sandbox.Sandbox
	Journal *journal.Journal
	// SearchRoot is what Grep and Glob search below, of this host; "" is a sandbox elsewhere, in which they fail.
	SearchRoot string
	// Slots is how many calls run at once; default DefaultSlots.
	Slots int
	Log   *slog.Logger
	// Witness names who knows which commands the sandbox was asked to start, "" for nobody: while the name stays the
	// same, a command that the sandbox does not know was not started. Nil is a sandbox that never forgets one.
	Witness func() string
}

// Service runs calls. It has a field for each part that calls need, and for each thing that is known of them all.
type Service struct {
	cfg   Config
	log   *slog.Logger
	j     *journal.Journal
	paths keyed
	life
	reap    await.Signal // there is something to forget
	servers *mcp.Servers

	mu       sync.Mutex // guards what follows
	live     map[string]*call
	hanging  map[*call]bool // verbs that were left behind in a file system that does not answer
	running  int
	loose    int // of them of no lane
	draining bool
	closed   bool
	conn     *Conn
	forget   []string // acknowledged commands that the sandbox still has
}

// life is what everything that a service started ends with.
type life struct {
	ctx  context.Context
	quit context.CancelFunc
	wg   sync.WaitGroup
}

// New makes a service. Recover is to be called before Connect, and Close in the end.
func New(cfg Config) *Service {
	cfg.Slots = cmp.Or(cfg.Slots, DefaultSlots)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Witness == nil {
		cfg.Witness = func() string { return "the sandbox" }
	}
	ctx, quit := context.WithCancel(context.Background())
	s := &Service{
		cfg: cfg, log: cfg.Log, j: cfg.Journal, life: life{ctx: ctx, quit: quit}, reap: await.NewSignal(),
		live: map[string]*call{}, hanging: map[*call]bool{},
	}
	s.servers = mcp.New(cfg.Sandbox, cfg.Log, s.serverChanged)
	s.wg.Go(func() {
		_ = contain.Loop(ctx, s.log, "housekeeping", func(context.Context) error { s.housekeeping(); return nil })
	})
	return s
}

// Close ends everything that runs in this process and waits for it, but not for ever: what hangs in a file system or on
// the journal's disk is left to the end of the process. Commands go on in the sandbox.
func (s *Service) Close() {
	s.mu.Lock()
	s.closed = true
	conn := s.conn
	s.mu.Unlock()
	if conn != nil {
		conn.Close()
	}
	s.quit()
	gone := make(chan struct{})
	go func() {
		s.wg.Wait()
		s.servers.Close()
		close(gone)
	}()
	late := time.NewTimer(closeWait)
	defer late.Stop()
	select {
	case <-gone:
	case <-late.C:
		s.log.Error("calls hang in a file system, they are left", "call_ids", s.unended())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.live {
		c.release()
	}
}

// unended is the calls that still do something in this process.
func (s *Service) unended() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := map[string]bool{}
	for c := range s.hanging {
		ids[c.id()] = true
	}
	for id, c := range s.live {
		select {
		case <-c.ended:
		default:
			ids[id] = true
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

// goLocked starts a goroutine unless the service is closed. The caller holds mu, so that none starts while Close waits.
func (s *Service) goLocked(f func()) {
	if !s.closed {
		s.wg.Go(func() { contain.Run(s.log, "what a call needs", f) })
	}
}

// Slots is how many calls may run at once.
func (s *Service) Slots() int { return s.cfg.Slots }

// Drain takes nothing new from now on and tells control so.
func (s *Service) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return
	}
	s.draining = true
	s.answer(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Draining{Draining: &pawlv1.Draining{}}})
}

// Draining reports whether Drain was called.
func (s *Service) Draining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// Settle waits until nothing but commands runs, because only commands survive this process, or until ctx ends.
func (s *Service) Settle(ctx context.Context) {
	for {
		c := s.unsettled()
		if c == nil {
			return
		}
		select {
		case <-c.ended:
		case <-ctx.Done():
			return
		}
	}
}

// Flush waits until what is ready to be sent was handed to the connection, if there is one, or until ctx ends.
func (s *Service) Flush(ctx context.Context) {
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	if conn == nil {
		return
	}
	select {
	case <-conn.idle():
	case <-ctx.Done():
	}
}

func (s *Service) unsettled() *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.live {
		if c.running() && c.verb == verbPlain {
			return c
		}
	}
	return nil
}

// housekeeping forgets what was acknowledged and sweeps the journal.
func (s *Service) housekeeping() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.reap:
			if await.Sleep(s.ctx, reapDelay) != nil {
				return
			}
			s.forgetAcknowledged()
		case <-tick.C:
			s.recordEnds()
			expired, err := s.j.Sweep()
			s.expired(expired)
			s.forgetAcknowledged()
			if err != nil {
				s.log.Error("the journal could not be swept", "err", err)
			}
		}
	}
}

// expired drops calls whose results nobody took: the journal has tombstones of them.
func (s *Service) expired(ids []string) {
	if len(ids) == 0 {
		return
	}
	s.log.Warn("results that nobody took were dropped", "call_ids", ids)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		c := s.live[id]
		if c == nil {
			continue
		}
		delete(s.live, id)
		c.release()
		if c.verb == verbExec {
			s.forget = append(s.forget, id)
		}
	}
}

// forgetAcknowledged drops commands from the sandbox. The acknowledgements are made durable first: a command that the
// sandbox has forgotten and the journal believes to be begun would count as one that never ran.
func (s *Service) forgetAcknowledged() {
	s.mu.Lock()
	ids := s.forget
	s.forget = nil
	s.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	if err := s.j.Sync(); err != nil {
		s.log.Error("acknowledgements could not be made durable", "err", err)
		s.later(ids)
		return
	}
	var done, again []string
	for _, id := range ids {
		ctx, cancel := context.WithTimeout(s.ctx, askTimeout)
		err := s.cfg.Sandbox.Forget(ctx, id)
		cancel()
		if err != nil && !errors.Is(err, sandbox.ErrUnknownExec) {
			if s.ctx.Err() == nil { // else the executor ends: what starts next on the journal forgets it
				s.log.Warn("a finished command could not be forgotten", "call_id", id, "err", err)
			}
			again = append(again, id)
			continue
		}
		done = append(done, id)
	}
	if _, err := s.j.Forgot(done...); err != nil {
		s.log.Warn("forgotten commands could not be recorded", "err", err)
	}
	s.later(again)
}

// later leaves commands to the next sweep.
func (s *Service) later(ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget = append(s.forget, ids...)
}
