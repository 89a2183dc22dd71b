package work

import (
	"bytes"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/journal"
)

// facts are all that a decision about a frame depends on.
type facts struct {
	epoch    int64 // highest seen of the lane
	known    bool  // the call is here, in any state
	state    journal.State
	safety   journal.Safety
	args     []byte // of the known call
	dispatch uint32 // of the known call
	revoked  uint32 // dispatches up to this one never run
	isBarred bool   // revoked is set
	running  int
	slots    int
	draining bool
}

// verdict is what becomes of a frame.
type verdict uint8

const (
	reject  verdict = iota
	start           // run it
	present         // answer with the present state
	revoke          // it is not here: make sure that it never will be, then say so
	end             // end it, or answer with its result
)

// onExecute is E2 and E3.
func onExecute(f facts, epoch int64, dispatch uint32, args []byte) (verdict, pawlv1.Rejected_Reason) {
	switch {
	case epoch < f.epoch:
		return reject, pawlv1.Rejected_REASON_STALE_EPOCH
	case f.known && !bytes.Equal(f.args, args):
		return reject, pawlv1.Rejected_REASON_CONFLICT
	case f.known && !mayRunAgain(f, dispatch):
		return present, 0
	case f.isBarred && dispatch <= f.revoked:
		return reject, pawlv1.Rejected_REASON_REVOKED
	case f.draining:
		return reject, pawlv1.Rejected_REASON_DRAINING
	case f.running >= f.slots:
		return reject, pawlv1.Rejected_REASON_CAPACITY
	}
	return start, 0
}

// mayRunAgain: a call whose outcome nobody knows may be dispatched anew if doing it twice does no harm.
func mayRunAgain(f facts, dispatch uint32) bool {
	return f.state == journal.Interrupted && f.safety != journal.AtMostOnce && dispatch > f.dispatch
}

// onAttach is E3: what was answered UNKNOWN never runs.
func onAttach(f facts) verdict {
	if f.known {
		return present
	}
	return revoke
}

// onCancel is E3, and the revocation of what has not arrived.
func onCancel(f facts, epoch int64) (verdict, pawlv1.Rejected_Reason) {
	switch {
	case epoch < f.epoch:
		return reject, pawlv1.Rejected_REASON_STALE_EPOCH
	case !f.known:
		return revoke, 0
	}
	return end, 0
}

// needs tell what of a call is recorded before it runs.
//
//	            recorded   on the disk
//	at-most-once   yes        yes       E1
//	idempotent     yes        no        so that a restarted daemon knows it
//	pure           Exec only  no        a command is to be found again whatever it is
//	of no lane  no         no        nobody asks for it again
type needs struct{ begin, sync bool }

func needsOf(loose bool, safety journal.Safety, v verb) needs {
	switch {
	case loose:
		return needs{}
	case safety == journal.AtMostOnce:
		return needs{begin: true, sync: true}
	case safety == journal.Idempotent, v == verbExec:
		return needs{begin: true}
	}
	return needs{}
}

func safetyOf(s pawlv1.Safety) journal.Safety {
	switch s {
	case pawlv1.Safety_SAFETY_IDEMPOTENT:
		return journal.Idempotent
	case pawlv1.Safety_SAFETY_PURE:
		return journal.Pure
	}
	return journal.AtMostOnce // unknown ones included
}

func stateOf(s journal.State) pawlv1.State {
	switch s {
	case journal.Finished:
		return pawlv1.State_STATE_FINISHED
	case journal.Interrupted:
		return pawlv1.State_STATE_INTERRUPTED
	case journal.Tombstone:
		return pawlv1.State_STATE_TOMBSTONE
	}
	return pawlv1.State_STATE_RUNNING
}
