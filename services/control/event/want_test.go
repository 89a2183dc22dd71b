package event

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/wake"
)

// tree is a stream of a root and two sub-agents, a and b; b was asked for by a.
func tree() []Event {
	a := &Loop{Task: "a", Session: "conversation-a", Root: "root"}
	b := &Loop{Task: "b", Parent: "a", Session: "conversation-b", Root: "root"}
	return []Event{
		{Seq: 1, SubmissionID: "root", Type: Started},
		{Seq: 2, SubmissionID: "root", Type: Text},
		{Seq: 3, SubmissionID: "sub-a", Loop: a, Type: TaskStarted, EntrySeq: 1, Task: &Task{Agent: "helper"}},
		{Seq: 4, SubmissionID: "sub-a", Loop: a, Type: Thinking},
		{Seq: 5, SubmissionID: "sub-b", Loop: b, Type: TaskStarted, EntrySeq: 1, Task: &Task{}},
		{Seq: 6, SubmissionID: "sub-b", Loop: b, Type: ToolOutput, Call: &Call{ID: "c"}, Output: &Output{}},
		{
			Seq: 7, SubmissionID: "sub-b", Loop: b, Type: TaskFinished, Task: &Task{Duration: time.Second},
			Settlement: &Settlement{Outcome: "completed", EntrySeq: 7},
		},
		{Seq: 8, SubmissionID: "sub-a", Loop: a, Type: EntryAdded, EntrySeq: 2},
		{Seq: 9, SubmissionID: "root", Type: EntryAdded, EntrySeq: 20},
	}
}

// A reader is sent the root's events, of sub-agents what it wants, and their deltas only when it asked for them.
func TestReadersGetWhatTheyWant(t *testing.T) {
	for name, c := range map[string]struct {
		want Want
		seqs []int64
	}{
		"by default":           {Want{}, []int64{1, 2, 3, 5, 7, 8, 9}},
		"none of children":     {Want{Children: NoChildren}, []int64{1, 2, 9}},
		"all of children":      {Want{Children: AllOfChildren}, []int64{1, 2, 3, 4, 5, 6, 7, 8, 9}},
		"one child's deltas":   {Want{Tasks: []string{"b", "x"}}, []int64{1, 2, 3, 5, 6, 7, 8, 9}},
		"one child, no others": {Want{Children: NoChildren, Tasks: []string{"a"}}, []int64{1, 2, 3, 4, 8, 9}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &memory{}
				log.append(9, "")
				copy(log.events, tree())
				s := NewService(log, wake.NewBus(nil))
				ctx, cancel := context.WithCancel(t.Context())
				stored, live := s.reader(ctx, c.want, 0, false), s.reader(ctx, c.want, 0, true)
				synctest.Wait()
				all := tree()
				for i := range all {
					s.Publish("id", key, all[i:i+1]) // alone: a batch of which nothing is wanted is no empty batch
					synctest.Wait()
				}
				cancel()
				for how, f := range map[string]*follower{"stored": stored, "live": live} {
					<-f.done
					if fmt.Sprint(f.seen) != fmt.Sprint(c.seqs) || how == "live" && f.empty > 0 {
						t.Errorf("%s: seen %v and %d empty batches, want %v", how, f.seen, f.empty, c.seqs)
					}
				}
				if !reflect.DeepEqual(all, tree()) {
					t.Error("a reader has changed the events of the others")
				}
			})
		})
	}
}

// reader is a follower that takes everything.
func (s *Service) reader(ctx context.Context, want Want, after int64, fresh bool) *follower {
	sub := s.Subscribe(key, want)
	f := &follower{done: make(chan struct{})}
	go func() {
		defer close(f.done)
		defer sub.Close()
		for batch, err := range s.Follow(ctx, sub, "id", after, fresh) {
			if f.err = err; err != nil {
				return
			}
			if len(batch) == 0 {
				f.empty++
			}
			for _, e := range batch {
				f.seen = append(f.seen, e.Seq)
			}
		}
	}()
	return f
}

// Deltas of a sub-agent are made for those who asked for them, the root's for everybody who watches.
func TestDeltasAreMadeForWhoWantsThem(t *testing.T) {
	s := NewService(&memory{}, wake.NewBus(nil))
	expect := func(when string, root, a, b bool) {
		t.Helper()
		if s.Watched(key) != root || s.WatchedTask(key, "a") != a || s.WatchedTask(key, "b") != b {
			t.Errorf("%s: watched %v, %v, %v", when, s.Watched(key), s.WatchedTask(key, "a"), s.WatchedTask(key, "b"))
		}
	}
	expect("nobody", false, false, false)
	end := s.SubscribeToEnd(key)
	expect("who waits for the end", false, false, false)
	plain := s.Subscribe(key, Want{})
	expect("a watcher", true, false, false)
	one := s.Subscribe(key, Want{Tasks: []string{"a"}})
	expect("one of a", true, true, false)
	all := s.Subscribe(key, Want{Children: AllOfChildren})
	expect("one of all", true, true, true)
	for _, sub := range []*Subscription{all, plain, end} {
		sub.Close()
	}
	expect("one of a is left", true, true, false)
	one.Close()
	expect("nobody is left", false, false, false)
}

// conversations is a log whose entries say which conversation they are of, and that counts reads of them.
type conversations struct {
	memory
	asked []string
}

func (c *conversations) Entries(
	_ context.Context, id string, after int64, limit int,
) (page []session.Entry, err error) {
	c.asked = append(c.asked, fmt.Sprint(id, " ", after, " ", limit))
	for seq := after + 1; seq <= after+int64(limit); seq++ {
		page = append(page, session.Entry{Seq: seq, SubmissionID: fmt.Sprint(id, " ", seq)})
	}
	return page, nil
}

// An event's entry is in the conversation of its loop. Each conversation is read where something of it is needed.
func TestEntriesAreOfTheLoopsConversation(t *testing.T) {
	log := &conversations{}
	log.append(9, "")
	copy(log.events, tree())
	events, err := NewService(log, wake.NewBus(nil)).Read(t.Context(), "id", 0)
	if err != nil || len(events) != 9 {
		t.Fatal(len(events), err)
	}
	for i, want := range map[int]string{
		2: "conversation-a 1", 4: "conversation-b 1", 7: "conversation-a 2", 8: "id 20",
	} {
		if e := events[i].Entry; e == nil || e.SubmissionID != want {
			t.Errorf("event %d has entry %v, want %s", i+1, e, want)
		}
	}
	if want := "[conversation-a 0 2 conversation-b 0 7 id 19 1]"; fmt.Sprint(log.asked) != want {
		t.Errorf("asked for %v, want %s", log.asked, want)
	}
}

// The stored form of a loop's event says whose it is; that of the root's takes no byte more.
func TestStoredForm(t *testing.T) {
	for _, e := range tree() {
		body, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var back Event
		if err := json.Unmarshal(body, &back); err != nil {
			t.Fatal(err)
		}
		back.Seq = e.Seq
		if !reflect.DeepEqual(back, e) || e.Root() != "root" {
			t.Errorf("%s is read as %+v", body, back)
		}
	}
	body, err := json.Marshal(Event{SubmissionID: "root", Type: Text, Text: "x"})
	if want := `{"t":"0001-01-01T00:00:00Z","s":"root","e":"text","x":"x"}`; err != nil || string(body) != want {
		t.Errorf("%s, %v, want %s", body, err, want)
	}
}
