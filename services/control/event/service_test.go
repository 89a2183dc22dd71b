package event

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/wake"
)

var key = session.Key{Tenant: "t", Agent: "a", Instance: "i", Name: "s"}

// memory is a log that counts its reads.
type memory struct {
	mu     sync.Mutex // guards what follows
	events []Event
	head   int64
	floor  int64
	reads  int
	asked  int             // queries about heads and submissions
	ended  map[string]bool // submissions that have settled
	gone   bool            // its lane is
}

// append adds n events and returns them.
func (m *memory) append(n int, text string) []Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	var added []Event
	for range n {
		m.head++
		added = append(added, Event{Seq: m.head, Type: Text, Text: text})
	}
	m.events = append(m.events, added...)
	return added
}

// drop deletes the events of a range; with floor, as retention does.
func (m *memory) drop(from, to int64, floor bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var kept []Event
	for _, e := range m.events {
		if e.Seq < from || e.Seq > to {
			kept = append(kept, e)
		}
	}
	m.events = kept
	if floor {
		m.floor = to
	}
}

func (m *memory) Events(_ context.Context, _ string, after int64, limit int) ([]Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	if m.gone {
		return nil, session.ErrNotFound
	}
	if after < m.floor {
		return nil, TooOld(after, m.floor)
	}
	var page []Event
	for _, e := range m.events {
		if e.Seq > after && len(page) < limit {
			page = append(page, e)
		}
	}
	return page, nil
}

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reads
}

func (m *memory) EventHeads(_ context.Context, ids []string) (map[string]int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	heads := map[string]int64{}
	for _, id := range ids {
		heads[id] = m.head
	}
	return heads, nil
}

func (m *memory) Settled(_ context.Context, ids []string) (settled []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	for _, id := range ids {
		if m.ended[id] {
			settled = append(settled, id)
		}
	}
	return settled, nil
}

// Entries are as large as an answer of a model may be, and there are as many as anybody wants.
func (m *memory) Entries(_ context.Context, _ string, after int64, limit int) (page []session.Entry, err error) {
	for i := range int64(limit) {
		page = append(page, session.Entry{Seq: after + 1 + i, Message: model.Message{
			Content: []model.Block{{Type: model.TextBlock, Text: strings.Repeat("x", 50<<10)}},
		}})
	}
	return page, nil
}

// follower is a reader that takes a batch when it is told to.
type follower struct {
	go1   chan struct{}
	seen  []int64
	empty int
	err   error
	done  chan struct{}
}

func (s *Service) follower(ctx context.Context, after int64, fresh bool) *follower {
	sub := s.Subscribe(key, Want{})
	f := &follower{go1: make(chan struct{}, 1<<20), done: make(chan struct{})}
	go func() {
		defer close(f.done)
		defer sub.Close()
		for batch, err := range s.Follow(ctx, sub, "id", after, fresh) {
			if f.err = err; err != nil {
				return
			}
			for _, e := range batch {
				f.seen = append(f.seen, e.Seq)
			}
			select {
			case <-f.go1:
			case <-ctx.Done():
				return
			}
		}
	}()
	return f
}

func (f *follower) take(n int) {
	for range n {
		f.go1 <- struct{}{}
	}
	synctest.Wait()
}

func seqs(from, to int64) (all []int64) {
	for s := from; s <= to; s++ {
		all = append(all, s)
	}
	return all
}

func same(t *testing.T, f *follower, want ...[]int64) {
	t.Helper()
	var all []int64
	for _, w := range want {
		all = append(all, w...)
	}
	if fmt.Sprint(f.seen) != fmt.Sprint(all) {
		t.Errorf("seen %v\nwant %v", f.seen, all)
	}
}

// A session that is deleted and begun again has the same key and another stream: readers of the first one get nothing
// of the second, wherever they stand.
func TestReadersOfADeletedSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 20 { // both have something to say at once, and one of them is looked at first
			log, bus := &memory{}, wake.NewBus(nil)
			s := NewService(log, bus)
			first := log.append(3, "first")
			f := s.follower(t.Context(), 0, false)
			f.take(1) // of the log, which has nothing more
			s.Publish("id", key, first)
			log.mu.Lock()
			log.gone = true
			log.mu.Unlock()
			bus.Publish(wake.Lane("id"))
			s.Publish("again", key, []Event{{Seq: 4, Type: Text}, {Seq: 5, Type: Text}})
			f.take(10)
			<-f.done
			if same(t, f, seqs(1, 3)); !errors.Is(f.err, session.ErrNotFound) {
				t.Errorf("%v", f.err)
			}
		}
	})
}

// A reader that takes nothing holds up nobody and next to no memory, and reads from the log what it did not take.
func TestSlowReaderGoesBackToTheLog(t *testing.T) {
	for name, c := range map[string]struct {
		batches, size int
		text          string
	}{
		"many events": {60, 100, "x"},
		"large ones":  {60, 1, strings.Repeat("x", 200<<10)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &memory{}
				s := NewService(log, wake.NewBus(nil))
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				f := s.follower(ctx, 0, true)
				s.Publish("id", key, log.append(1, c.text))
				synctest.Wait() // it has a batch and does not come back for more
				for range c.batches {
					s.Publish("id", key, log.append(c.size, c.text))
				}
				for sub := range s.hub.topics[key] {
					if sub.bytes > maxBytes || len(sub.buf) > maxBuffered || !sub.lost {
						t.Errorf("%d events of %d bytes wait for it", len(sub.buf), sub.bytes)
					}
				}
				f.take(1000)
				same(t, f, seqs(1, int64(1+c.batches*c.size)))
				s.Publish("id", key, log.append(2, "live again"))
				f.take(10)
				same(t, f, seqs(1, int64(3+c.batches*c.size)))
				cancel()
				<-f.done
			})
		})
	}
}

// A reader that waits holds one page: of a bounded size whatever is in it, with everything in it that it tells of.
func TestPagesAreSmall(t *testing.T) {
	large := strings.Repeat("x", 1<<20)
	for name, one := range map[string]func(i int64) Event{
		"texts":      func(int64) Event { return Event{Type: Text, Text: large[:100<<10]} },
		"large ones": func(int64) Event { return Event{Type: Text, Text: large} },
		"output": func(int64) Event {
			return Event{
				Type:   ToolOutput,
				Output: &Output{Data: []byte(large[:100<<10])},
			}
		},
		"entries":     func(i int64) Event { return Event{Type: EntryAdded, EntrySeq: 7 * i} },
		"settlements": func(i int64) Event { return Event{Type: Settled, Settlement: &Settlement{EntrySeq: i}} },
	} {
		t.Run(name, func(t *testing.T) {
			log := &memory{}
			for i := range int64(100) {
				e := one(i + 1)
				e.Seq = i + 1
				log.events = append(log.events, e)
			}
			for after := int64(0); after < 100; {
				page, err := NewService(log, wake.NewBus(nil)).Read(t.Context(), "id", after)
				if err != nil || len(page) == 0 {
					t.Fatal(len(page), err)
				}
				weight := 0
				for i := range page {
					if after++; page[i].Seq != after || page[i].Weight() < 50<<10 {
						t.Errorf("event %d has %d bytes", page[i].Seq, page[i].Weight())
					}
					weight += page[i].Weight()
				}
				if len(page) > 1 && weight > PageBytes || cap(page) > 2*len(page)+8 {
					t.Errorf("a page of %d events (room for %d) weighs %d", len(page), cap(page), weight)
				}
			}
		})
	}
}

// A reader whose cursor is in a hole gets the next event that exists; live events must follow each other.
func TestFollowPassesOverHoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memory{}
		s := NewService(log, wake.NewBus(nil))
		log.append(1000, "x")
		log.drop(3, 300, false)
		log.drop(400, 999, false)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		first, inside := s.follower(ctx, 0, false), s.follower(ctx, 150, false)
		first.take(100)
		inside.take(100)
		same(t, first, seqs(1, 2), seqs(301, 399), seqs(1000, 1000))
		same(t, inside, seqs(301, 399), seqs(1000, 1000))
		lost := log.append(3, "published nowhere")
		live := log.append(2, "live")
		s.Publish("id", key, live)
		s.Publish("id", key, live) // twice
		first.take(10)
		inside.take(10)
		same(t, first, seqs(1, 2), seqs(301, 399), seqs(1000, 1002+int64(len(lost))))
		same(t, inside, seqs(301, 399), seqs(1000, 1002+int64(len(lost))))
		cancel()
		<-first.done
		<-inside.done
	})
}

// A reader that falls below the floor is told, and told where to go on.
func TestFollowTellsOfACursorThatIsTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memory{}
		s := NewService(log, wake.NewBus(nil))
		log.append(1000, "x")
		f := s.follower(t.Context(), 0, false)
		synctest.Wait()
		log.drop(1, 700, true)
		f.take(10)
		<-f.done
		if floor, ok := FloorOf(f.err); !errors.Is(f.err, ErrCursorTooOld) || !ok || floor != 700 {
			t.Errorf("the reader got %v", f.err)
		}
		same(t, f, seqs(1, pageSize))
	})
}

// What other replicas append is found without a hint.
func TestTailFindsWhatOthersAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memory{}
		s := NewService(log, wake.NewBus(nil))
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx, elsewhere) }()
		f := s.follower(ctx, 0, false)
		f.take(100)
		log.append(3, "elsewhere")
		time.Sleep(tailEvery)
		synctest.Wait()
		same(t, f, seqs(1, 3))
		reads := log.count()
		time.Sleep(4 * tailEvery) // at rest the log is left alone
		if n := log.count() - reads; n != 0 {
			t.Errorf("%d reads of a log that did not grow", n)
		}
		cancel()
		<-f.done
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// elsewhere is a replica that owns no lane.
func elsewhere(string) bool { return false }

// resting is a Service that polls, with readers that have read all that there is.
type resting struct {
	*Service
	log  *memory
	here func(laneID string) bool // replaceable: whether this replica owns a lane
	all  sync.WaitGroup           // of the readers
}

func newResting(ctx context.Context, t *testing.T) *resting {
	r := &resting{log: &memory{ended: map[string]bool{}}, here: elsewhere}
	r.Service = NewService(r.log, wake.NewBus(nil))
	r.all.Go(func() {
		if err := r.Run(ctx, func(id string) bool { return r.here(id) }); err != nil {
			t.Error(err)
		}
	})
	return r
}

// watch adds n watchers of the stream.
func (r *resting) watch(ctx context.Context, n int) {
	for range n {
		f := r.follower(ctx, 0, false)
		r.all.Go(func() { <-f.done })
		f.take(1000)
	}
}

// wait adds n waiters for the end of a submission. They look until it has settled, or ctx ends; looked counts that.
func (r *resting) wait(ctx context.Context, n int, id string, begun bool) (looked *atomic.Int64) {
	looked = &atomic.Int64{}
	for range n {
		r.all.Go(func() {
			w := r.Waiter("id", id)
			defer w.Close()
			for w.Wait(ctx, begun, time.Hour) == nil {
				looked.Add(1)
				if done, err := r.log.Settled(ctx, []string{id}); err != nil || len(done) > 0 {
					return
				}
			}
		})
	}
	return looked
}

// queries is what a minute with nothing to see costs.
func (r *resting) queries() int {
	synctest.Wait()
	r.log.mu.Lock()
	before := r.log.reads + r.log.asked
	r.log.mu.Unlock()
	time.Sleep(time.Minute)
	synctest.Wait()
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	return r.log.reads + r.log.asked - before
}

// Readers with nothing to see cost one query for all of them, and none when nothing can come from elsewhere.
func TestReadersAtRestCostTheDatabaseAsMuchAsOne(t *testing.T) {
	here := func(string) bool { return true }
	const tails, awaits = int(time.Minute / tailEvery), int(time.Minute / tailEvery / awaitTicks)
	for name, c := range map[string]struct {
		owns     func(string) bool
		watchers int
		waiters  int
		begun    bool
		want     int
	}{
		"nobody":                             {elsewhere, 0, 0, false, 0},
		"one watcher":                        {elsewhere, 1, 0, false, tails},
		"many watchers":                      {elsewhere, 200, 0, false, tails},
		"watchers of a lane here":            {here, 200, 0, false, 0},
		"one waiter":                         {elsewhere, 0, 1, true, awaits},
		"many waiters":                       {elsewhere, 0, 200, true, awaits},
		"waiters for what runs here":         {here, 0, 200, true, 0},
		"waiters for what may end elsewhere": {here, 0, 200, false, awaits},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				r := newResting(ctx, t)
				r.here = c.owns
				r.watch(ctx, c.watchers)
				r.wait(ctx, c.waiters, "a", c.begun)
				if n := r.queries(); n != c.want {
					t.Errorf("a minute costs %d queries, want %d", n, c.want)
				}
				cancel()
				r.all.Wait()
				if len(r.hub.places) != 0 || len(r.hub.topics) != 0 {
					t.Errorf("%d places and %d sessions are left", len(r.hub.places), len(r.hub.topics))
				}
			})
		})
	}
}

// What a lane's next owner appends is seen although this replica owned the lane before.
func TestALaneThatMovesIsPolled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := newResting(ctx, t)
		owned := atomic.Bool{}
		owned.Store(true)
		r.here = func(string) bool { return owned.Load() }
		f := r.follower(ctx, 0, false)
		f.take(100)
		r.Publish("id", key, r.log.append(2, "here"))
		synctest.Wait()
		owned.Store(false)
		r.log.append(3, "elsewhere")
		time.Sleep(tailEvery)
		synctest.Wait()
		same(t, f, seqs(1, 5))
		cancel()
		<-f.done
		r.all.Wait()
	})
}

// Waiters hear of what this replica begins and settles at once, of the rest within two ticks.
func TestWaitersHearOfTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := newResting(ctx, t)
		here, there, not := r.wait(ctx, 2, "here", true), r.wait(ctx, 2, "there", true), r.wait(ctx, 2, "not", true)
		synctest.Wait()
		r.log.mu.Lock()
		r.log.ended["here"], r.log.ended["there"] = true, true
		r.log.mu.Unlock()
		r.Publish("id", key, []Event{{Seq: 1, Type: Text}, {Seq: 2, Type: Settled, SubmissionID: "here"}})
		synctest.Wait()
		if here.Load() != 2 || there.Load() != 0 {
			t.Errorf("%d and %d of 2 waiters looked, want those for what has settled here", here.Load(), there.Load())
		}
		time.Sleep(awaitTicks * tailEvery)
		synctest.Wait()
		if there.Load() != 2 || not.Load() != 0 {
			t.Errorf("%d of 2 waiters looked for what has settled elsewhere, %d for what runs", there.Load(),
				not.Load())
		}
		cancel()
		r.all.Wait()
	})
}

// A hint that another replica has changed a lane makes its readers look, and nobody else.
func TestHintsWakeReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		log, bus := &memory{}, wake.NewBus(nil)
		s := NewService(log, bus) // that does not poll
		f := s.follower(ctx, 0, false)
		f.take(100)
		log.append(3, "elsewhere")
		reads := log.count()
		bus.Heard([]string{"another"})
		synctest.Wait()
		if n := log.count() - reads; n != 0 {
			t.Errorf("%d reads after a hint of another lane", n)
		}
		bus.Heard([]string{"id"})
		synctest.Wait()
		same(t, f, seqs(1, 3))
		log.append(1, "and again")
		bus.Heard(nil)
		synctest.Wait()
		same(t, f, seqs(1, 4))
		cancel()
		<-f.done
	})
}
