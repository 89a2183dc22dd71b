package loop_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// An executor that refuses a call for ever is asked again, less and less often.
func TestRefusalsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		orders := make(chan *call.Order, 1000)
		b.executor.on = func(o *call.Order) tool.Reply { orders <- o; return nil }
		sub := b.submit("s", "echo one")
		began, n := time.Now(), 0
		var last *call.Order
		for time.Since(began) < 10*time.Minute {
			synctest.Wait()
			for len(orders) > 0 {
				last = <-orders
				n++
			}
			b.say(last.Call, "x1", call.Rejected{Epoch: last.Epoch, Reason: "REVOKED"})
			time.Sleep(100 * time.Millisecond)
		}
		if n < 5 || n > 30 {
			t.Errorf("%d orders in ten minutes", n)
		}
		for len(orders) == 0 {
			b.say(last.Call, "x1", call.Rejected{Epoch: last.Epoch, Reason: "REVOKED"})
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
		}
		last = <-orders
		b.say(last.Call, "x1", call.Ended{Reply: echo(last)})
		b.expect(b.wait(sub.ID), lane.Completed, "one")
	})
}
