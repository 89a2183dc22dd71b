package fair

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// Of classes that wait all the time none has two turns more than another, items of a class keep their order, and an
// empty queue keeps nothing.
func TestClassesTakeTurns(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 1))
		var q Queue[string]
		pushed, popped := map[string]int{}, map[string]int{}
		push := func(class string) {
			pushed[class]++
			q.Push(class, fmt.Sprint(class, " ", pushed[class]))
		}
		for range 500 {
			push("busy")
		}
		pop := func() string {
			item, ok := q.Pop()
			if !ok {
				t.Fatal("nothing waits")
			}
			var class string
			var n int
			if _, err := fmt.Sscan(item, &class, &n); err != nil {
				t.Fatal(err)
			}
			if popped[class]++; popped[class] != n {
				t.Fatalf("seed %d: %s is served after %d", seed, item, popped[class]-1)
			}
			return class
		}
		for range 300 {
			for _, class := range []string{"a", "b"} {
				if pushed[class] == popped[class] || r.IntN(2) == 0 {
					push(class)
				}
			}
			if r.IntN(4) == 0 {
				gone := q.Push("b", "gone")
				q.Remove(gone)
				q.Remove(gone)
			}
			served := popped[pop()]
			for class, n := range popped {
				if served-n > 1 {
					t.Fatalf("seed %d: %s has had %d turns, another %d", seed, class, n, served)
				}
			}
		}
		for q.Len() > 0 {
			pop()
		}
		if _, ok := q.Pop(); ok || len(q.byName) != 0 || q.turns.Len() != 0 {
			t.Errorf("seed %d: an empty queue keeps %d classes", seed, len(q.byName))
		}
	}
}

// Whoever comes while another one has much waiting is served after one more of that.
func TestLatecomersDoNotWaitBehindAll(t *testing.T) {
	var q Queue[string]
	for range 1000 {
		q.Push("busy", "busy")
	}
	for range 10 {
		q.Pop()
	}
	q.Push("b", "b")
	for n := range 2 {
		if item, _ := q.Pop(); item == "b" {
			return
		} else if n == 1 {
			t.Errorf("%s is served", item)
		}
	}
}
