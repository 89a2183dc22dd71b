// Package wake tells the goroutines of this process that what they look at may have changed.
//
//	a change that was committed ─▶ Publish ─▶ Bus ─▶ Subscription.C ─▶ the subscriber reads the rows again
//	other replicas ◀─ Announce, PublishReady   ▲
//	other replicas ─▶ Heard ───────────────────┘
//
// A wake-up carries no news. It says "look at this topic", so any number of them is one, and one too many costs a look.
// Whoever commits a change publishes its topic afterwards; whoever waits for changes subscribes first and looks then.
//
// Invariants: publishing never blocks; a subscriber that looks after each receive from C sees every change that was
// published in this process since it subscribed. Announcements of other replicas are hints that may be lost: whatever
// waits for one also polls. When some are known to be lost, every subscriber is woken.
package wake

import (
	"slices"
	"sync"

	"github.com/pawl-dev/pawl/internal/await"
)

// kind is what a topic is about.
type kind uint8

const (
	lane kind = iota
	submission
	executor
	ready
)

// Topic is a thing that can change. Topics are comparable.
type Topic struct {
	kind kind
	id   string // "" is all of the kind
}

// Ready is published when a lane may have become due, or is due sooner: there may be something to claim.
var Ready = Topic{kind: ready}

// AnyExecutor hears of all executors.
var AnyExecutor = Topic{kind: executor}

// Lane is published when rows of a lane have changed that its owner, or a reader of its stream, has not written or seen
// itself: an abort, a result of a call that another replica has stored, events of another owner.
func Lane(id string) Topic { return Topic{lane, id} }

// Submission is published when a submission has begun or has settled.
func Submission(id string) Topic { return Topic{submission, id} }

// Executor is published when an executor came or went.
func Executor(id string) Topic { return Topic{executor, id} }

// Bus carries wake-ups. Its methods may be called concurrently.
type Bus struct {
	elsewhere func(hints ...string)

	mu     sync.Mutex // guards what follows
	topics map[Topic][]*Subscription
}

// NewBus makes a Bus. elsewhere passes hints, most of them the ids of lanes, to Heard at the other replicas, as
// store.Notifier's Notify does; it must return at once. nil is that there are no others.
func NewBus(elsewhere func(hints ...string)) *Bus {
	if elsewhere == nil {
		elsewhere = func(...string) {}
	}
	return &Bus{elsewhere: elsewhere, topics: map[Topic][]*Subscription{}}
}

// Publish wakes the subscribers of the topics in this process.
func (b *Bus) Publish(topics ...Topic) {
	b.mu.Lock()
	var all []*Subscription
	for _, t := range topics {
		all = append(all, b.topics[t]...)
		if t.id != "" {
			all = append(all, b.topics[Topic{kind: t.kind}]...)
		}
	}
	b.mu.Unlock()
	wakeAll(all)
}

// readyHint says to other replicas that Ready was published. It is no lane's id.
const readyHint = "ready"

// PublishReady publishes Ready here and at the other replicas. That makes each of them ask the database, so it is only
// for lanes that are due.
func (b *Bus) PublishReady() {
	b.Publish(Ready)
	b.elsewhere(readyHint)
}

// Announce wakes the subscribers of the lanes at the other replicas: whoever has changed rows that an owner or a reader
// there waits for calls it after its commit. Subscribers in this process are not woken.
func (b *Bus) Announce(laneIDs ...string) { b.elsewhere(laneIDs...) }

// Heard takes what another replica has announced. nil says that announcements were lost, and wakes everybody.
func (b *Bus) Heard(hints []string) {
	if hints != nil {
		var topics []Topic
		for _, hint := range hints {
			if hint == readyHint {
				topics = append(topics, Ready)
			} else {
				topics = append(topics, Lane(hint))
			}
		}
		b.Publish(topics...)
		return
	}
	b.mu.Lock()
	var all []*Subscription
	for _, subs := range b.topics {
		all = append(all, subs...)
	}
	b.mu.Unlock()
	wakeAll(all)
}

func wakeAll(subs []*Subscription) {
	for _, s := range subs {
		s.Wake()
	}
}

// Subscribe begins to listen to topics.
func (b *Bus) Subscribe(topics ...Topic) *Subscription {
	c := await.NewSignal()
	s := &Subscription{C: c, c: c, bus: b}
	s.Add(topics...)
	return s
}

// SubscribeFunc calls look instead, from the goroutines that publish: it must not block. It may be called once more
// after Close.
func (b *Bus) SubscribeFunc(look func(), topics ...Topic) *Subscription {
	s := &Subscription{look: look, bus: b}
	s.Add(topics...)
	return s
}

// Subscription is one waiting goroutine's place on the bus. Close it.
type Subscription struct {
	// C has an item when one of the topics was published since the last receive.
	C <-chan struct{}

	c      await.Signal
	look   func() // instead of c
	bus    *Bus
	topics []Topic // guarded by the bus' mutex
}

// Add listens to more topics. Look at what they are about after it, not before.
func (s *Subscription) Add(topics ...Topic) {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	for _, t := range topics {
		if !slices.Contains(s.topics, t) {
			s.topics = append(s.topics, t)
			s.bus.topics[t] = append(s.bus.topics[t], s)
		}
	}
}

// Remove listens no longer to topics. What was published before may still be in C.
func (s *Subscription) Remove(topics ...Topic) {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	for _, t := range topics {
		if i := slices.Index(s.topics, t); i >= 0 {
			s.topics = slices.Delete(s.topics, i, i+1)
			s.bus.remove(t, s)
		}
	}
}

// Close ends the subscription. C stays open.
func (s *Subscription) Close() {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	for _, t := range s.topics {
		s.bus.remove(t, s)
	}
	s.topics = nil
}

// Wake wakes this subscriber alone, as if one of its topics had been published: for polls that know who has missed
// something.
func (s *Subscription) Wake() {
	if s.look != nil {
		s.look()
		return
	}
	s.c.Set()
}

// remove is called with mu held.
func (b *Bus) remove(t Topic, s *Subscription) {
	subs := b.topics[t]
	if i := slices.Index(subs, s); i >= 0 {
		last := len(subs) - 1
		subs[i], subs[last] = subs[last], nil
		subs = subs[:last]
	}
	if b.topics[t] = subs; len(subs) == 0 {
		delete(b.topics, t)
	}
}
