package call

import "time"

// comeBack is how long a call that has no executor waits at least under each owner: time for executors to connect
// again. Maybe no replica lived for a while, and nobody could connect.
const comeBack = 15 * time.Second

// Watch is what the owner of a lane knows of one of its open calls beside the record. All times are of this process's
// clock and are compared with each other only.
type Watch struct {
	Made       time.Time // when the call was made, from Call.Age
	Owned      time.Time // since when this owner has it
	Sent       time.Time // when it was dispatched last, from Call.Age; zero before the first time
	Connection int64     // of its executor when it was last sent or asked for, or a slot for it; 0 is never
	Heard      time.Time // when its executor was last asked about it, or said something of it
	Away       time.Time // since when its executor is not connected; zero while it is
	Unreached  time.Time // since when messages do not get through to its executor, which is connected
	Hold       time.Time // do not dispatch or ask before
	Resend     time.Time // when the present dispatch is sent again, because the executor had no room; zero is never
	Cancelled  time.Time // when it was asked to end
	Running    time.Time // since when it is known to run
	Inherited  bool      // it was made by an owner before
	Ended      bool      // what it came to is known, and its output is incomplete
	Quiet      time.Time // since when no output came of what has ended
	Asked      time.Time // when that output was last asked for
}

// WaitsUntil is until when a call that has no executor waits for one. grace is as in Situation. The time in which no
// replica lived counts, but not alone: executors get time to connect to this owner's replica.
func (w Watch) WaitsUntil(grace time.Duration) time.Time {
	until, least := w.Made.Add(grace), w.Owned.Add(min(grace, comeBack))
	if until.Before(least) {
		return least
	}
	return until
}
