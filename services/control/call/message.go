package call

import (
	"time"

	"github.com/pawl-dev/pawl/services/control/tool"
)

// Message is what control says to an executor about a call: *Order, *Cancel, *Attach, *ResultAck or *OutputAck.
type Message interface{ message() }

// Order asks for a call.
type Order struct {
	Call    Call // ID, Dispatch, Safety, ArgsHash
	LaneID  string
	Epoch   int64
	Request tool.Request
	Cwd     string
	Env     map[string]*string // nil takes a variable away
	Timeout time.Duration      // 0 is none
}

// Cancel ends a call and all its processes.
type Cancel struct {
	CallID string
	LaneID string
	Epoch  int64
	Grace  time.Duration
}

// Attach asks for a call's state, its output from the offsets on, and its result.
type Attach struct {
	CallID     string
	LaneID     string
	Epoch      int64
	Dispatch   int
	StdoutFrom int64
	StderrFrom int64
}

// ResultAck says that a result is durable.
type ResultAck struct{ CallID string }

// Window is how many bytes of a stream an executor may send beyond the last acknowledgement.
const Window = 1 << 20

// OutputAck says that output below Upto is durable.
type OutputAck struct {
	CallID string
	Stderr bool
	Upto   int64
}

func (*Order) message()     {}
func (*Cancel) message()    {}
func (*Attach) message()    {}
func (*ResultAck) message() {}
func (*OutputAck) message() {}

// Report is what an executor says about a call.
type Report struct {
	Executor string
	CallID   string
	LaneID   string // the lane whose owner asked for the call
	Body     ReportBody
}

// ReportBody is Accepted, Rejected, Output, Progress, Ended, Found or Slot.
type ReportBody interface{ report() }

// Accepted says that the call is recorded and started.
type Accepted struct{}

// Rejected says that the order was not obeyed.
type Rejected struct {
	Epoch   int64  // of the order: an answer to a former owner may come to its successor
	Known   int64  // with STALE_EPOCH: the highest epoch of the lane that the executor knows; 0 otherwise
	Reason  string // STALE_EPOCH, CONFLICT, CAPACITY, DRAINING, REVOKED, UNSUPPORTED, NO_SPACE
	Message string
}

// Output is bytes of output, in order per stream.
type Output struct {
	Stderr bool
	Offset int64
	Data   []byte
}

// Progress says how far a call is.
type Progress tool.Progress

// Ended is the end of a call. It is repeated until ResultAck.
type Ended struct{ Reply tool.Reply }

// Found answers Attach.
type Found struct {
	State    FoundState
	Dispatch int
	// Journal is the id of the executor's journal now. Unknown by the journal that the executor had at the dispatch
	// proves that the call never ran and, revoked by the answer, never will: see ForgetAfter.
	Journal string
}

// Slot says that a call which waited has a slot of its executor, and is dispatched: the owner of its lane sends it.
type Slot struct {
	Dispatch int
	Journal  string
}

// ForgetAfter is how long an executor remembers a call that was not acknowledged, at least (E4).
const ForgetAfter = 24 * time.Hour

// FoundState is what an executor knows of a call.
type FoundState uint8

// What an executor can know.
const (
	Unknown FoundState = iota
	RunningThere
	FinishedThere
	InterruptedThere
	TombstoneThere
)

func (Accepted) report() {}
func (Rejected) report() {}
func (Output) report()   {}
func (Progress) report() {}
func (Ended) report()    {}
func (Found) report()    {}
func (Slot) report()     {}

// StateOf is the terminal state that a reply brings a call to. A reply that says that nobody saw the end is no outcome:
// the owner decides by the call's safety whether to run it again.
func StateOf(r tool.Reply) State {
	switch tool.EndingOf(r) {
	case tool.Cancelled:
		return Cancelled
	case tool.Unseen:
		return Lost
	}
	return Done
}
