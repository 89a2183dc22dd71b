package fleet

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Who asks at once shares a query; who asks while one is under way gets the answer of a later one, because what he asks
// about may have happened since that began.
func TestQueriesAreSharedAndNeverOlderThanTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queries := 0
		s := newShared(func(context.Context) (int, error) {
			queries++
			n := queries
			time.Sleep(time.Second)
			if n == 3 {
				return 0, errors.New("the third fails")
			}
			return n, nil
		})
		got := make(chan int, 100)
		ask := func() {
			n, err := s.get(t.Context())
			if err != nil {
				n = -1
			}
			got <- n
		}
		want := func(answers ...int) {
			t.Helper()
			for _, want := range answers {
				if n := <-got; n != want {
					t.Errorf("the answer of query %d, want that of %d", n, want)
				}
			}
		}
		go ask()
		synctest.Wait()
		for range 3 {
			go ask()
		}
		synctest.Wait()
		want(1, 2, 2, 2)
		go ask()
		want(-1)
		go ask()
		want(4)

		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.get(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("who has gone waits: %v", err)
		}
		synctest.Wait()
		go ask() // the query that the one who has gone began is no failure for others
		want(6)
	})
}

// A query that panics fails those who wait for it, and nobody after them.
func TestASharedQueryThatPanicsIsAnError(t *testing.T) {
	panics := true
	s := newShared(func(context.Context) (int, error) {
		if panics {
			panic("a bug")
		}
		return 1, nil
	})
	if _, err := s.get(t.Context()); err == nil {
		t.Error("no error")
	}
	panics = false
	if n, err := s.get(t.Context()); n != 1 || err != nil {
		t.Error(n, err)
	}
}
