package turn

import (
	"sync"

	"github.com/pawl-dev/pawl/services/control/call"
)

// mailbox is what others tell a run. Posting never blocks: what an executor may send is bounded by its output windows, so that a run
// that is busy committing never delays a connection.
type mailbox struct {
	ready chan struct{} // holds a token when there may be something

	mu      sync.Mutex // guards what follows
	reports []call.Report
	nudged  bool              // the fleet or the session's rows changed: look
	open    map[string]string // calls that the run waits for, and of which executor
}

func newMailbox() *mailbox { return &mailbox{ready: make(chan struct{}, 1), open: map[string]string{}} }

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
	if _, ended := r.Body.(call.Ended); ended {
		delete(m.open, r.CallID) // a repetition is answered from the record
	}
	m.reports = append(m.reports, r)
	m.mu.Unlock()
	m.signal()
	return true
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
	return reports, nudged
}
