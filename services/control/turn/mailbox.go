package turn

import (
	"sync"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// mailbox is what others tell a strand. Posting never blocks, so that a strand that is busy committing never delays a
// connection, and what waits is bounded: output beyond the executor's window is dropped, and asked for again if it is
// ever wanted.
type mailbox struct {
	ready await.Signal // holds a token when there may be something

	mu      sync.Mutex // guards what follows
	reports []call.Report
	ended   []endedHere
	far     map[string]tool.Progress // how far calls are, the last that was said
	nudged  bool                     // the fleet or rows of the lane changed: look
	open    map[string]string        // calls that the strand waits for, and of which executor
	waiting map[string]int           // bytes of output in reports, by call
	said    map[string]int           // other reports in reports, by call
}

// endedHere is what a call came to that this process carries out itself. Its outcome may be committed.
type endedHere struct {
	callID    string
	reply     tool.Reply
	state     call.State  // if it is committed
	usage     model.Usage // of a sub-agent
	committed bool
}

// maxSaid bounds the reports of one call that wait, output aside. Honest executors say three things of a call.
const maxSaid = 64

func newMailbox() *mailbox {
	return &mailbox{ready: await.NewSignal()}
}

// expect says that the strand waits for a call of an executor.
func (m *mailbox) expect(callID, executor string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open == nil { // most strands have no calls
		m.open, m.waiting, m.said = map[string]string{}, map[string]int{}, map[string]int{}
	}
	m.open[callID] = executor
}

// forget says that it waits for the call no longer: what comes later is for the connection to record.
func (m *mailbox) forget(callID string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.open, callID)
}

// post takes a report; false when the strand does not wait for the call, or not for this executor to tell of it.
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
	m.ready.Set()
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

// end tells what a call came to that this process carries out.
func (m *mailbox) end(e endedHere) {
	m.mu.Lock()
	m.ended = append(m.ended, e)
	m.mu.Unlock()
	m.ready.Set()
}

// progress tells how far a call is. What is not taken before the next one is dropped.
func (m *mailbox) progress(callID string, p tool.Progress) {
	m.mu.Lock()
	if m.far == nil {
		m.far = map[string]tool.Progress{}
	}
	m.far[callID] = p
	m.mu.Unlock()
	m.ready.Set()
}

// takeProgress is how far calls are.
func (m *mailbox) takeProgress() map[string]tool.Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	far := m.far
	m.far = nil
	return far
}

func (m *mailbox) nudge() {
	m.mu.Lock()
	m.nudged = true
	m.mu.Unlock()
	m.ready.Set()
}

// unread reports whether there is something that take would return.
func (m *mailbox) unread() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nudged || len(m.reports)+len(m.ended) > 0
}

func (m *mailbox) take() (reports []call.Report, own []endedHere, nudged bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	reports, own, nudged = m.reports, m.ended, m.nudged
	m.reports, m.ended, m.nudged = nil, nil, false
	clear(m.waiting)
	clear(m.said)
	return reports, own, nudged
}
