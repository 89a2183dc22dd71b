package audit

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// memory is a Store that may be away, and never takes what it does not like.
type memory struct {
	Store
	mu      sync.Mutex
	away    bool
	refused string
	events  []Event
}

func (m *memory) AppendAudit(_ context.Context, events []Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	poison := func(e Event) bool { return m.refused != "" && e.Resource == m.refused }
	if m.away || slices.ContainsFunc(events, poison) {
		return errors.New("no")
	}
	m.events = append(m.events, events...)
	return nil
}

func (m *memory) set(away bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = away
}

func (m *memory) resources() (all []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.events {
		all = append(all, e.Resource)
	}
	slices.Sort(all)
	return all
}

func run(t *testing.T, m *memory) *Log {
	l := NewLog(m, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	var end sync.WaitGroup
	end.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { stop(); end.Wait() })
	return l
}

func write(t *testing.T, l *Log, resource string) *Record {
	t.Helper()
	r := reserve(t, l)
	r.Write(Event{Resource: resource})
	return r
}

func reserve(t *testing.T, l *Log) *Record {
	t.Helper()
	r, err := l.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A record whose write failed is written when the database is back, and whoever waits for it waits that long.
func TestFailedWritesAreNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{away: true}
		l := run(t, m)
		a, b := write(t, l, "a"), write(t, l, "b")
		limited, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := a.Wait(limited); !errors.Is(err, ErrAway) {
			t.Errorf("it is written: %v", err)
		}
		m.set(false)
		for _, r := range []*Record{a, b} {
			if err := r.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if got := m.resources(); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("%v", got)
		}
	})
}

// A record that the database never takes keeps no other from being written.
func TestOneRecordDoesNotStopTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{refused: "poison", away: true}
		l := run(t, m)
		write(t, l, "poison")
		a, b := write(t, l, "a"), write(t, l, "b")
		m.set(false)
		for _, r := range []*Record{a, b, write(t, l, "c")} {
			if err := r.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

// The queue is bounded: what has no room is refused before it is done, and room that is given back is there again.
func TestRoomIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{away: true}
		l := run(t, m)
		for range maxQueue - 1 {
			write(t, l, "x")
		}
		last, err := l.Reserve()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Reserve(); !errors.Is(err, ErrAway) {
			t.Errorf("one more than there is room for: %v", err)
		}
		last.Release()
		last.Release()
		if _, err = l.Reserve(); err != nil {
			t.Error(err)
		}
		if _, err := l.Reserve(); !errors.Is(err, ErrAway) {
			t.Errorf("room was given back twice: %v", err)
		}
		m.set(false)
		time.Sleep(time.Hour)
		if n := len(m.resources()); n != maxQueue-1 {
			t.Errorf("%d are written", n)
		}
		if _, err := l.Reserve(); err != nil {
			t.Error(err)
		}
	})
}

// A record that a transaction stores is not written again, and its room is there again. One that no transaction has
// stored is written, under the id that a transaction would have stored it with.
func TestATransactionStoresARecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		l := run(t, m)
		stored, written := reserve(t, l), reserve(t, l)
		for _, r := range []*Record{stored, written} {
			r.Fill(Event{Resource: "a\x00"})
			if e := r.Event(); e.ID == "" || e.Resource != "a\uFFFD" {
				t.Errorf("a transaction would store %+v", e)
			}
		}
		id := written.Event().ID
		stored.Stored()
		stored.Stored()
		stored.Write(Event{Resource: "twice"})
		written.Write(Event{Resource: "b"})
		for _, r := range []*Record{stored, written} {
			if err := r.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if got := m.resources(); !slices.Equal(got, []string{"b"}) || m.events[0].ID != id {
			t.Errorf("%+v", m.events)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.taken != 0 {
			t.Errorf("room for %d records is taken", l.taken)
		}
	})
}

// What is in the queue when the process ends is written.
func TestTheEndIsWritten(t *testing.T) {
	m := &memory{}
	l := NewLog(m, slog.New(slog.DiscardHandler))
	r := write(t, l, "a\x00\xff")
	ended, end := context.WithCancel(t.Context())
	end()
	if err := l.Run(ended); err != nil {
		t.Error(err)
	}
	if err := r.Wait(t.Context()); err != nil || !slices.Equal(m.resources(), []string{"a\uFFFD\uFFFD"}) {
		t.Errorf("%v, %q", err, m.resources())
	}
	if _, err := l.Reserve(); !errors.Is(err, ErrAway) {
		t.Error(err)
	}
}
