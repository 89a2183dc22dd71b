// Package work is what an executor does with the frames that it gets: it decides by the rules E1–E6 of proto/pawl/v1,
// runs the verbs in a sandbox, and keeps what came of them until control has it.
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
// The decisions are pure functions in rules.go. A Service applies them: what it decides is in the journal's memory
// before the next frame is looked at, and on the disk before it is told or done. The methods of a Conn are the two ends
// of a connection: Receive takes control's frames, Next gives the executor's. Verbs run without any connection; a Conn
// only watches.
//
// Delivery. Frames that answer go first, in order. Output follows, one chunk of one call at a time in turn, each call
// within its own window, so that a slow watcher of one call never delays another. A Result comes after the output of
// its call, or without it: when the window stays exhausted for `linger`, or nobody attached within `attachWait` of a
// new connection.
//
// Invariants:
//   - A call is in Service.live from the decision to start it until its ResultAck; the journal knows it before it has
//     an effect.
//   - Nothing but Cancel, its deadline and its own end ends a call; a lost connection never does.
//   - Edits and writes of one path replace it one after the other.
//   - Service.Close leaves commands running in the sandbox and records no end for what it cut short: Recover finds out.
package work
