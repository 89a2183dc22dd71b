// Package mono tells how much time has passed in this process, and nothing else.
//
// Leases, silences and retries are about durations. A wall clock is set by people and by the network, and two machines
// never agree on it. Whoever has only a Clock of this package cannot compare the two.
package mono

import "time"

// Clock is the time since a fixed moment of this process. It never goes back and never jumps. Safe for concurrent use.
type Clock func() time.Duration

// New makes a Clock that begins now, on the monotonic clock of the system.
func New() Clock {
	began := time.Now()
	return func() time.Duration { return time.Since(began) }
}

// Since is how long ago an earlier moment of the same Clock was.
func (c Clock) Since(at time.Duration) time.Duration { return c() - at }
