// Package journal is the memory of an executor: it records which calls the executor began, how they ended, and which
// dispatches it promised never to run.
//
//	Begin ──▶ begun ──End──▶ finished | interrupted ──Ack, or 24 h──▶ tombstone ──7 days, or quota──▶ gone
//	  │                                                                  ▲
//	  └──Drop (it never ran, or may run again)──▶ gone                    └── a call may also End without having begun
//
// The journal is one file that only grows: an 8-byte header, then frames of length, CRC-32C and record. An index in
// memory answers every question. The file is read when it is opened, and for outcomes that are sent again. A record is
// in the file when the method that made it returns: the death of the process does not take it back. Wait(lsn) returns
// when the record is on the disk: the death of the host does not take it back. Callers of Wait share one fdatasync.
//
// Time. The journal reads no wall clock. Its time is its age: how long it was open, in all, on the monotonic clock.
// Each record carries the age at which it was made, and the next process continues at the newest one. A wall clock that
// jumps neither ends a time to live early nor makes it endless; a time to live does not run while no executor does.
//
// Invariants:
//   - What Wait returned nil for is found again after any crash. A torn end is cut off: nobody was told of it.
//   - A journal that proves less than before gets a new id, and control takes it for another one. That is so when the
//     middle of the file is damaged, when the file lies elsewhere than it was written (somebody copied or restored the
//     data directory), and when the quota took what owners used within the last two days.
//   - A copy that was put in the place of the journal, and an older state of it, can be told from the journal by its
//     incarnations, and by how many calls each of them has begun.
//   - Tombstones, revocations and fences of lanes share one quota. What was used longest ago goes first; evict says why
//     that is safe. Outcomes that were not acknowledged stay, and so do the fences of their lanes.
//   - One process at a time: `journal.lock` is held while the journal is open.
//   - Space for the small records is allocated ahead, so that a full disk refuses Begin and loses nothing that is held.
//
// A compaction writes what is alive to a new file and renames it over the old one. The id stays what it is.
package journal
