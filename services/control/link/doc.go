// Package link is control's end of the connections of executors.
//
// A connection, as this replica sees it:
//
//	         ┌─ refused: a Hello that is not valid, another executor connected under the name that answers a Ping
//	Connect ─┤
//	         └─ Hello ─▶ recorded: connection_epoch+1 ─▶ Welcome ─▶ serving ─▶ ended ─▶ its end is recorded
//	                                                                  │
//	      the stream ended, no Heartbeat for a ttl, a Heartbeat that shows that frames were lost,
//	      a newer connection of the executor, a panic, this replica's drain or the loss of its lease
//
// The same connection, as the executor sees it:
//
//	dialling ─▶ Hello sent ─▶ Welcome ─▶ serving ─▶ lost: its calls go on ─▶ dialling, after jittered backoff
//	                └─ an error that is final (see Connect in proto/pawl/v1) ─▶ the executor ends
//
// One connection is one failure domain: any failure ends it and it is made anew. Work and liveness share it. It has one
// goroutine that sends, one that receives and one that watches.
//
// What may be lost, and what makes up for it:
//
//   - A frame to the executor: the owner of the call attaches again, and the watcher compares rows and executor.
//   - A report to a lane's owner: the owner asks again.
//   - A write about the fleet (connected, draining, begun): Run compares the rows with the connections every few
//     seconds and writes what differs. Nothing remembers what has failed.
//   - The word that a call is over: the watcher finds calls that are at the executor and open for nobody, and cancels
//     them.
//
// Invariants: ResultAck is sent only for results that are durable (C2). A result for a lane that nobody here runs is
// recorded by this replica itself (C3) before it is acknowledged. Frames of a superseded connection are dropped. What a
// connection remembers is bounded by the calls that are open at its executor.
//
// Package files has the verbs on files, package peer the connections between replicas.
package link
