package turn

import (
	"testing"

	"github.com/pawl-dev/pawl/services/control/call"
)

func TestMailboxIsBoundedForHostileExecutors(t *testing.T) {
	t.Parallel()
	m := newMailbox()
	m.expect("c", "x")
	say := func(b call.ReportBody) bool { return m.post(call.Report{CallID: "c", Executor: "x", Body: b}) }
	for range 100 {
		say(call.Output{Data: make([]byte, call.Window)})
		say(call.Found{})
		say(call.Accepted{})
	}
	if !say(call.Ended{}) {
		t.Fatal("the end was not taken")
	}
	reports, _, _ := m.take()
	bytes, rest := 0, 0
	for _, r := range reports {
		if o, ok := r.Body.(call.Output); ok {
			bytes += len(o.Data)
		} else {
			rest++
		}
	}
	if bytes > 4*call.Window || rest > maxSaid+1 {
		t.Errorf("%d bytes of output and %d other reports wait", bytes, rest)
	}
	if _, ended := reports[len(reports)-1].Body.(call.Ended); !ended {
		t.Errorf("the end got lost among %d reports", len(reports))
	}
	m.expect("c", "x")
	say(call.Output{Data: []byte("x")})
	if reports, _, _ := m.take(); len(reports) != 1 {
		t.Errorf("after the others were taken there is no room: %d", len(reports))
	}
}
