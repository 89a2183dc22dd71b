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
	Exec     bool          // it is a command, which the sandbox may still have after a restart
	Image    bool          // its output is an image, which its outcome has
	Whole    bool          // its outcome has all of its output
	Deadline time.Duration // age of the journal at which the call ends; 0 is none
	// Witness names the process that would know of the call's command if that had been started; "" is nobody.
	Witness string
}

// Call is a call as the journal has it.
type Call struct {
	Begin
	State  State
	At     time.Duration // age of the journal when the call began
	Since  time.Duration // age of the journal when the call came to its state
	Forgot bool          // the sandbox holds nothing of it anymore

	off  int64 // of the outcome in the file
	size int   // of the outcome
}

func (e *encoder) begin(b *Begin, at time.Duration) *encoder {
	e.str(b.CallID).str(b.LaneID).int(b.Epoch).int(int64(b.Dispatch)).bytes(b.Args).int(int64(b.Safety))
	command := int64(0) // earlier versions wrote 1 for any command, and take any number for that
	switch {
	case b.Exec && b.Image:
		command = 2
	case b.Exec && b.Whole:
		command = 3
	case b.Exec:
		command = 1
	}
	return e.int(command).int(int64(b.Deadline)).str(b.Witness).age(at)
}

func (d *decoder) begin() (b Begin, at time.Duration) {
	b = Begin{CallID: d.str(), LaneID: d.str(), Epoch: d.int(), Dispatch: uint32(d.int())}
	b.Args = append([]byte(nil), d.bytes()...)
	b.Safety = Safety(d.int())
	command := d.int()
	b.Exec, b.Image, b.Whole = command != 0, command == 2, command == 3
	b.Deadline, b.Witness = time.Duration(d.int()), d.str()
	return b, d.age()
}

// weight is about what a call costs in a compacted file, and more in memory.
func (c *Call) weight() int64 {
	return int64(96 + len(c.CallID) + len(c.LaneID) + len(c.Args) + c.size)
}
