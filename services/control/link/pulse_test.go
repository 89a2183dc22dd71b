package link

import (
	"testing"
	"testing/synctest"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/mono"
)

// The time that a frame is handled for is no silence of the executor, neither while it is nor afterwards.
func TestHandlingIsNoSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPulse(mono.New())
		_ = p.handle(func() error {
			time.Sleep(2 * ttl)
			if p.silent() {
				t.Error("silent while a frame is handled")
			}
			return nil
		})
		if p.silent() {
			t.Error("silent right afterwards")
		}
		time.Sleep(ttl + 1)
		if !p.silent() {
			t.Error("not silent after a ttl without an answer")
		}
	})
}

// Pings that an executor never answers do not pile up: a later answer stands for them.
func TestPingsThatAreNotAnsweredAreForgotten(t *testing.T) {
	within(t, 1, func(all []*plane) {
		e := all[0].executor()
		e.deaf.Store(true)
		c := all[0].connection("e")
		for range 100 {
			var nonce uint64
			for range 10 {
				nonce = c.out.ping()
			}
			e.send(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Heartbeat{
				Heartbeat: &pawlv1.Heartbeat{Nonce: nonce},
			}})
			synctest.Wait()
		}
		c.out.mu.Lock()
		defer c.out.mu.Unlock()
		if n := len(c.out.pings); n != 0 {
			t.Errorf("%d Pings wait for answers", n)
		}
	})
}
