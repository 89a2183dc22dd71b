package turn

import (
	"sync"

	"github.com/pawl-dev/pawl/services/control/call"
)

// mailbox is what others tell a run. Posting never blocks, so that a run that is busy committing never delays a
// connection, and what waits is bounded: output beyond the executor's window is dropped, and asked for again if it is
// ever wanted.
type mailbox struct {
	ready chan struct{} // holds a token when there may be something

	mu      sync.Mutex // guards what follows
	reports []call.Report
	nudged  bool              // the fleet or the session's rows changed: look
	open    map[string]string // calls that the run waits for, and of which executor
	waiting map[string]int    // bytes of output in reports, by call
	said    map[string]int    // other reports in reports, by call
}

// maxSaid bounds the reports of one call that wait, output aside. Honest executors say three things of a call.
const maxSaid = 64

func newMailbox() *mailbox {
	return &mailbox{
		ready: make(chan struct{}, 1), open: map[string]string{}, waiting: map[string]int{},
		said: map[string]int{},
	}
}

// expect says which calls the run waits for.
func (m *mailbox) expect(calls []call.Call) {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.open)
	for _, c := range calls {
		if !c.State.Terminal() {
			m.open[c.ID] = c.Executor
		}
	}
}

// post takes a report; false when the run does not wait for the call, or not for this executor to tell of it.
func (m *mailbox) post(r call.Report) bool {
	m.mu.Lock()
	if executor, ok := m.open[r.CallID]; !ok || executor != r.Executor {
		m.mu.Unlock()
		return false
	}
	if m.fits(r) {
		m.reports = append(m.reports, r)
	}
	m.mu.Unlock()
	m.signal()
	return true
}

// fits counts a report and tells whether there is room for it. There always is for the end of a call.
func (m *mailbox) fits(r call.Report) bool {
	switch b := r.Body.(type) {
	case call.Ended:
		delete(m.open, r.CallID) // a repetition is answered from the record
		return true
	case call.Output:
		m.waiting[r.CallID] += len(b.Data)
		return m.waiting[r.CallID] <= 2*2*call.Window // two streams, and as much again after an Attach
	}
	m.said[r.CallID]++
	return m.said[r.CallID] <= maxSaid
}

func (m *mailbox) nudge() {
	m.mu.Lock()
	m.nudged = true
	m.mu.Unlock()
	m.signal()
}

func (m *mailbox) signal() {
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

func (m *mailbox) take() (reports []call.Report, nudged bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	reports, nudged = m.reports, m.nudged
	m.reports, m.nudged = nil, false
	clear(m.waiting)
	clear(m.said)
	return reports, nudged
}
