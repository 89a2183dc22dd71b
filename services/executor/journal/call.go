package journal

import "time"

// Safety decides what may be done with a call that was begun and whose end nobody saw.
type Safety uint8

// Safeties. The zero value is the strictest.
const (
	AtMostOnce Safety = iota
	Idempotent
	Pure
)

// State of a call.
type State uint8

// States.
const (
	Begun State = iota
	Finished
	Interrupted
	Tombstone
)

// Begin is what is known of a call when it begins.
type Begin struct {
	CallID   string
	LaneID   string
	Epoch    int64
	Dispatch uint32
	Args     []byte // hash of the arguments; nil for a call that was cancelled before it arrived
	Safety   Safety
	Verb     int32 // of the protocol; Exec calls are found in the sandbox
	Exec     bool
	Deadline time.Time // zero is none
}

// Call is a call as the journal has it.
type Call struct {
	Begin
	State  State
	At     time.Time // it began
	Boot   string    // of the host, in which it began
	Ended  time.Time
	Acked  time.Time
	Forgot bool // the sandbox holds nothing of it anymore

	off  int64 // of the outcome in the file
	size int   // of the outcome
}

func (e *encoder) begin(b *Begin, at time.Time, boot string) *encoder {
	e.str(b.CallID).str(b.LaneID).int(b.Epoch).int(int64(b.Dispatch)).bytes(b.Args)
	return e.int(int64(b.Safety)).int(int64(b.Verb)).flag(b.Exec).time(b.Deadline).time(at).str(boot)
}

func (d *decoder) begin() (b Begin, at time.Time, boot string) {
	b = Begin{CallID: d.str(), LaneID: d.str(), Epoch: d.int(), Dispatch: uint32(d.int()), Args: clone(d.bytes())}
	b.Safety, b.Verb, b.Exec, b.Deadline = Safety(d.int()), int32(d.int()), d.flag(), d.time()
	return b, d.time(), d.str()
}

func clone(p []byte) []byte {
	if len(p) == 0 {
		return nil
	}
	return append([]byte(nil), p...)
}

// weight is about what a call costs in a compacted file, and more in memory.
func (c *Call) weight() int64 {
	return int64(96 + len(c.CallID) + len(c.LaneID) + len(c.Args) + c.size)
}
