package fleet

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// Service places workspaces and knows the executors that are connected to this replica. All methods may be called
// concurrently.
type Service struct {
	store Store
	here  func() string
	all   *shared[[]Executor]
	// SharedNone lets shared executors have workspaces of several tenants without isolation. Set it before use.
	SharedNone bool

	mu    sync.Mutex // guards local
	local map[string]Executor
}

// NewService makes a Service. here is the id of this process as a replica, "" for none.
func NewService(store Store, here func() string) *Service {
	return &Service{store: store, here: here, all: newShared(store.ListExecutors), local: map[string]Executor{}}
}

// Wanted is what a workspace needs of an executor.
type Wanted struct {
	Tenant   string            // whose it is
	Executor string            // where it is bound already; "" is nowhere
	Labels   map[string]string // all must match
	Builtin  string            // preferred when no labels are wanted: the executor inside this process
	Tools    []string          // that it had better offer: of those that fit, one that offers the most of them
	// Needs are tools that it must offer some of, unless the workspace is bound: those that calls are about to be made
	// of. One that offers the most of them goes before all others.
	Needs []string
	// Roughly says that a second old will do, as for what a prompt tells of its surroundings: executors that are
	// connected to other replicas may have come or gone since.
	Roughly bool
}

// roughly is how old is not too old for Wanted.Roughly.
const roughly = time.Second

// Attached records that an executor is connected to this replica.
func (s *Service) Attached(e Executor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.local[e.ID] = e
	s.all.forget()
}

// Detached records the end of a connection, unless a newer one was attached.
func (s *Service) Detached(id string, epoch int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.local[id].ConnectionEpoch == epoch {
		delete(s.local, id)
		s.all.forget()
	}
}

// Local returns the executor if it is connected to this replica.
func (s *Service) Local(id string) (Executor, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.local[id]
	return e, ok
}

// Find returns an executor, wherever it is connected, or ErrNotFound.
func (s *Service) Find(ctx context.Context, id string) (Executor, error) {
	if e, ok := s.Local(id); ok {
		return e, nil
	}
	here := s.here()
	e, err := s.store.GetExecutor(ctx, id)
	return s.seen(e, here), err
}

// seen is an executor of which a row tells. One that counts as connected to this replica and is not is away: the end of
// its connection could not be recorded, and nobody else can reach it.
func (s *Service) seen(e Executor, here string) Executor {
	if e.Connected() && e.Replica == here {
		if local, ok := s.Local(e.ID); ok {
			return local
		}
		e.Replica, e.ReplicaAddr = "", ""
	}
	return e
}

// Place chooses where a workspace's calls go: where it is bound, which must have the wanted labels still, because with
// the calls go the secrets of the agent; else, among the connected executors that serve the tenant, have all wanted
// labels, offer what is needed and take new work, one that offers the most of the wanted tools, then the built-in one,
// then one that is connected here, then the least loaded. ok is false when there is none now.
func (s *Service) Place(ctx context.Context, w Wanted) (e Executor, ok bool, err error) {
	if w.Executor != "" {
		e, err = s.Find(ctx, w.Executor)
		return e, err == nil && e.Connected() && e.Has(w.Labels) && e.Serves(w.Tenant, s.SharedNone), err
	}
	if len(w.Labels) == 0 && len(w.Tools) == 0 {
		if e, ok := s.Local(w.Builtin); ok && !e.Draining && e.Serves(w.Tenant, s.SharedNone) {
			return e, true, nil
		}
	}
	all, err := s.list(ctx, w)
	if err != nil {
		return Executor{}, false, err
	}
	all = slices.DeleteFunc(all, func(e Executor) bool { return !e.Serves(w.Tenant, s.SharedNone) })
	e, ok = choose(all, w, func(e Executor) bool { _, here := s.Local(e.ID); return here })
	return e, ok, nil
}

// Offering is the executor whose tools a workspace has: where it is bound, connected or not; else the one that Place
// would choose now. While Place finds none it is one that calls would wait for: one that is away, or takes no new work,
// and offers the most of the wanted tools. ok is false when there is none either. All tools are those of one executor,
// because a workspace is at one: of others' tools no call could be made.
func (s *Service) Offering(ctx context.Context, w Wanted) (e Executor, ok bool, err error) {
	if w.Executor != "" {
		e, err = s.Find(ctx, w.Executor)
		return e, err == nil, err
	}
	all, err := s.list(ctx, w)
	if err != nil {
		return e, false, err
	}
	all = slices.DeleteFunc(all, func(e Executor) bool {
		return !e.Serves(w.Tenant, s.SharedNone) || !e.Has(w.Labels)
	})
	here := func(e Executor) bool { _, here := s.Local(e.ID); return here }
	if e, ok = choose(slices.Clone(all), w, here); ok || len(all) == 0 {
		return e, ok, nil
	}
	return slices.MaxFunc(all, func(a, b Executor) int { return a.offersOf(w.Tools) - b.offersOf(w.Tools) }), true, nil
}

func (s *Service) list(ctx context.Context, w Wanted) ([]Executor, error) {
	here := s.here()
	get := s.all.get
	if w.Roughly {
		get = func(ctx context.Context) ([]Executor, error) { return s.all.recent(ctx, roughly) }
	}
	rows, err := get(ctx)
	if err != nil {
		return nil, err
	}
	all := slices.Clone(rows)
	for i := range all {
		all[i] = s.seen(all[i], here)
	}
	return all, nil
}

// choose is the pure part of Place. all is not to be used any more.
func choose(all []Executor, w Wanted, here func(Executor) bool) (Executor, bool) {
	fit := slices.DeleteFunc(all, func(e Executor) bool {
		return !e.Connected() || e.Draining || !e.Has(w.Labels) || len(w.Needs) > 0 && e.offersOf(w.Needs) == 0
	})
	if len(fit) == 0 {
		return Executor{}, false
	}
	first := func(a, b bool) int {
		switch {
		case a == b:
			return 0
		case a:
			return -1
		}
		return 1
	}
	builtin := func(e Executor) bool { return len(w.Labels) == 0 && w.Builtin != "" && e.ID == w.Builtin }
	return slices.MinFunc(fit, func(a, b Executor) int {
		better := cmp.Or(b.offersOf(w.Needs)-a.offersOf(w.Needs), b.offersOf(w.Tools)-a.offersOf(w.Tools),
			first(builtin(a), builtin(b)), first(here(a), here(b)))
		if better != 0 {
			return better
		}
		// Compare a.Running/a.Slots with b.Running/b.Slots without division; an executor without slots counts as full.
		la, lb := a.Running*max(b.Slots, 1), b.Running*max(a.Slots, 1)
		if la != lb {
			return la - lb
		}
		return b.Slots - a.Slots
	}), true
}
