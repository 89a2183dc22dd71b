// Package turn carries out calls that were asked for: those of a model's answer, or of a step of a run.
//
// A Lane is what everything at work in one owned lane shares. A Strand is turns in it, one after the other: the calls
// that were asked for at once. A loop has one strand, a run has one for itself and one for each step in flight. Each
// strand has a goroutine, a mailbox for what others tell it, and an outbox of events for its next commit.
//
//	             ┌─ Start: a commit with the calls' records, then they are sent ─┐
//	no calls ────┤                                                                ▼
//	    ▲        └─ Inherit: those of an owner before are attached to ─────▶ calls in flight ◀──── Reconsider
//	    │                                                                    │ Await    │  ▲            ▲
//	    │                  all have ended, the last outcome is not written ◀─┘          ▼  │ mail, time │
//	    │                                  │                                     the lane rests         │
//	    └────────── Finish ◀── the user's commit: results, records, AddLast ── refused: call.ErrEnded ──┘
//
// What is done with one call is decided by call.Next. A call of kind executor is placed where the workspace is, which
// the first one that is placed decides; one of kind task is carried out by a loop that the User begins, one of kind
// control by a function here. A call that has an approval waits for that before anything is done with it.
//
// Strands of one lane are independent of each other: they commit concurrently under the lane's one fence, and only the
// step at fault is refused. Those of one submission differ in their turns' numbers. A strand may be made to end alone.
//
// Invariants: a call is committed before it is sent; a result is acknowledged after it is committed; events are
// published after their commit; a call that is recorded is never asked for again, but attached to; a lane rests only if
// all of its strands wait for nothing but decisions, times and mail, and none has anything unread; a lane that is
// fenced writes nothing more.
package turn
