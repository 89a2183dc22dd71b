// Package journal is the memory of an executor: which calls it began, how they ended, and what it promised never to
// run.
//
//	Begin ──▶ begun ──End──▶ finished | interrupted ──Ack, or 24 h──▶ tombstone ──7 days, or quota──▶ gone
//	  │                                                                  ▲
//	  └──Drop (it never ran, or may run again)──▶ gone                    └── a call may also End without having begun
//
// It is one file, `journal`, that only grows: an 8-byte header, then frames of length, CRC-32C and record. An index in
// memory answers every question; the file is read when it is opened and for outcomes that are sent again. A record is
// in the file when the method that made it returns, which is enough for the death of the process; Wait(lsn) returns
// when it is on the disk, which is enough for the death of the host. Waiters share one fdatasync.
//
// Invariants:
//   - What Wait returned nil for is found again after any crash. A torn end is cut off; it was never waited for.
//   - A damaged middle is a gap: the journal keeps what it can read and gets a new id, because an absence proves
//     nothing anymore.
//   - A copy of a journal, or an older state of it, can be told from the journal: by its incarnations, and by how many
//     calls each of them has begun.
//   - A journal that forgets what owners used within the last two days gets a new id: "not here" proves what it may.
//   - Tombstones, revocations and fences of lanes share one quota. What was used longest ago goes first; evict says
//     why that is safe. Outcomes that were not acknowledged stay, and so do the fences of their lanes.
//   - One process at a time: `journal.lock` is held while it is open.
//   - Space for the small records is allocated ahead, so that a full disk refuses Begin and loses nothing that is held.
//
// A compaction writes what is alive to a new file and renames it over the old one; the id stays what it is.
package journal
