package wake

import (
	"fmt"
	"slices"
	"sync"
	"testing"
)

// woken reports whether a wake-up waits for s, and takes it.
func woken(s *Subscription) bool {
	select {
	case <-s.C:
		return true
	default:
		return false
	}
}

func TestPublishWakesTheSubscribersOfItsTopics(t *testing.T) {
	b := NewBus(nil)
	subs := map[string]*Subscription{
		"lane a":        b.Subscribe(Lane("a")),
		"lanes a and b": b.Subscribe(Lane("a"), Lane("b")),
		"executor x":    b.Subscribe(Executor("x")),
		"executors":     b.Subscribe(AnyExecutor),
		"ready":         b.Subscribe(Ready),
		"submission a":  b.Subscribe(Submission("a")),
		"nothing":       b.Subscribe(),
	}
	for _, c := range []struct {
		topics []Topic
		want   []string
	}{
		{[]Topic{Lane("a")}, []string{"lane a", "lanes a and b"}},
		{[]Topic{Lane("b"), Lane("b")}, []string{"lanes a and b"}},
		{[]Topic{Lane("c")}, nil},
		{[]Topic{Executor("x")}, []string{"executor x", "executors"}},
		{[]Topic{Executor("y")}, []string{"executors"}},
		{[]Topic{Submission("a"), Ready}, []string{"ready", "submission a"}},
	} {
		b.Publish(c.topics...)
		b.Publish(c.topics...) // coalesces
		var got []string
		for name, s := range subs {
			if woken(s) {
				got = append(got, name)
			}
			if woken(s) {
				t.Errorf("%s was woken twice", name)
			}
		}
		slices.Sort(got)
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%v woke %v, want %v", c.topics, got, c.want)
		}
	}
}

func TestTopicsComeAndGo(t *testing.T) {
	b := NewBus(nil)
	s, other := b.Subscribe(Lane("a"), Lane("a")), b.Subscribe(Lane("a"))
	s.Add(Lane("b"))
	s.Remove(Lane("a"), Lane("nobody's"))
	b.Publish(Lane("a"))
	if woken(s) || !woken(other) {
		t.Error("a topic was removed from the wrong subscriber")
	}
	b.Publish(Lane("b"))
	if !woken(s) {
		t.Error("a topic that was added wakes nobody")
	}
	s.Wake()
	if !woken(s) || woken(other) {
		t.Error("Wake is for one subscriber")
	}
	s.Close()
	s.Close()
	b.Publish(Lane("b"))
	if woken(s) {
		t.Error("a closed subscription is woken")
	}
	other.Close()
	if len(b.topics) != 0 {
		t.Errorf("topics that nobody listens to are kept: %v", b.topics)
	}
}

func TestAnnouncementsGoElsewhereAndComeFromThere(t *testing.T) {
	var sent []string
	b := NewBus(func(ids ...string) { sent = append(sent, ids...) })
	lane, ready, executor := b.Subscribe(Lane("a")), b.Subscribe(Ready), b.Subscribe(Executor("x"))
	b.Announce("a", "b")
	if fmt.Sprint(sent) != "[a b]" || woken(lane) || woken(ready) {
		t.Errorf("sent %v; this process must not be woken", sent)
	}
	b.Heard([]string{"a"})
	if !woken(lane) || woken(ready) || woken(executor) {
		t.Error("an announcement wakes the lane's subscribers, and makes nobody claim lanes")
	}
	sent = nil
	b.PublishReady()
	if !woken(ready) {
		t.Error("a lane is due, and nobody here looks")
	}
	b.Heard(sent)
	if !woken(ready) || woken(lane) || woken(executor) {
		t.Error("a lane is due, and nobody elsewhere looks")
	}
	b.Heard(nil)
	if !woken(lane) || !woken(ready) || !woken(executor) {
		t.Error("lost announcements wake everybody")
	}
}

// Whoever looks after each receive sees every change, however publishers and subscribers interleave.
func TestNoWakeUpIsLost(t *testing.T) {
	b := NewBus(nil)
	var mu sync.Mutex // guards rows
	rows := 0
	const changes = 1000
	var all sync.WaitGroup
	for range 4 {
		s := b.Subscribe(Lane("a"))
		all.Go(func() {
			defer s.Close()
			for {
				mu.Lock()
				seen := rows
				mu.Unlock()
				if seen == changes {
					return
				}
				<-s.C
			}
		})
	}
	for range 4 {
		all.Go(func() {
			for range changes / 4 {
				mu.Lock()
				rows++
				mu.Unlock()
				b.Publish(Lane("a"))
				b.Subscribe(Lane("a"), Ready).Close()
			}
		})
	}
	all.Wait()
	if len(b.topics) != 0 {
		t.Errorf("%d topics are kept", len(b.topics))
	}
}
