package loop

import "testing"

// A tenant's answer does not wait behind all that another one has waiting, nor behind loops that have ended meanwhile,
// and one tenant alone has all places.
func TestTenantsTakeTurnsAtStreaming(t *testing.T) {
	s := newStreams(3)
	may := func(one *stream) bool {
		select {
		case <-one.granted:
			return true
		default:
			return false
		}
	}
	var busy []*stream
	for n := range 1000 {
		one := s.ask("busy")
		if may(one) != (n < 3) {
			t.Fatalf("answer %d streams: %v", n, may(one))
		}
		busy = append(busy, one)
	}
	gone, mine := s.ask("b"), s.ask("b")
	s.leave(gone)
	served := 0
	for ; !may(mine); served++ {
		if served > 1 {
			t.Fatalf("%d answers of another tenant came first", served)
		}
		s.leave(busy[served])
	}
	s.leave(mine)
	for ; served < len(busy); served++ {
		if !may(busy[served]) {
			t.Fatalf("answer %d waits while a place is free", served)
		}
		s.leave(busy[served])
	}
	if s.free != 3 || s.waits.Len() != 0 {
		t.Errorf("%d places are free, %d wait", s.free, s.waits.Len())
	}
}
