// Package work decides what an executor does with the frames of control, by the rules E1–E6 of proto/pawl/v1. It runs
// the verbs in a sandbox, and keeps results and output until control has acknowledged them.
//
// The states of a call:
//
//	            ┌─ Rejected: stale epoch, conflict, revoked, capacity, draining, no space
//	Execute ────┤
//	            └─▶ starting ──BEGIN durable──▶ running ──▶ finished ──ResultAck──▶ tombstone
//	                                              │  ▲
//	                           the daemon died ───┘  │
//	                                   │  Recover    │
//	                                   ├─────────────┘ the sandbox still has it
//	                                   ├──▶ interrupted ──ResultAck──▶ tombstone      nobody knows its outcome
//	                                   └──▶ unknown ──Attach, Cancel──▶ revoked       it never ran, or may run again
//
// Decisions are pure functions, see rules.go. A Service applies them. It writes a decision to the journal before it
// looks at the next frame, and makes it durable before it answers or acts. A Conn is one connection: Receive takes the
// frames of control, Next returns those of the executor. Verbs need no connection.
//
// Delivery. Answers are sent first, in order. Output follows, one chunk of one call at a time, the calls in turn, each
// within its own window: a slow reader of one call never delays another call. The Result of a call is sent after its
// output, with two exceptions: the window has been exhausted for `linger`, or no Attach has come within `attachWait` of
// a new connection.
//
// Invariants:
//   - A call is in Service.live from the decision to start it until its ResultAck. The journal knows it before it has
//     an effect.
//   - A call of a lane ends by itself, by its deadline, or by Cancel. The loss of a connection does not end it.
//   - A rejected Execute leaves no trace but the epoch: the same dispatch may be sent again.
//   - Writes and edits of one path happen one after the other.
//   - Service.Close leaves commands running in the sandbox. It records no end for what it cuts short: the next Recover
//     finds out.
package work
