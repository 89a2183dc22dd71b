package sqlite

import (
	"time"
)

// Clock is what a database takes time from. A wall clock that jumps while the database is open changes nothing, so Wall
// is read once.
type Clock struct {
	Wall    func() time.Time     // time.Now when nil
	Elapsed func() time.Duration // since any moment, and never going back; since Open when nil
}

// newest is when the last row of each table that grows with time was made, by this clock: the times of entries are
// their authors'.
var newest = sql(`SELECT max(
	coalesce((SELECT created_at FROM sessions WHERE rowid = (SELECT max(rowid) FROM sessions)), 0),
	coalesce((SELECT accepted_at FROM submissions WHERE rowid = (SELECT max(rowid) FROM submissions)), 0),
	coalesce((SELECT created_at FROM tool_calls WHERE rowid = (SELECT max(rowid) FROM tool_calls)), 0),
	coalesce((SELECT created_at FROM segments WHERE rowid = (SELECT max(rowid) FROM segments)), 0))`)

// start begins the database's time: at the wall clock's, but not before the newest row. It returns what tells the time
// from then on.
func (c Clock) start(db *conn) (now func() time.Time, err error) {
	if c.Wall == nil {
		c.Wall = time.Now
	}
	if c.Elapsed == nil {
		began := time.Now()
		c.Elapsed = func() time.Duration { return time.Since(began) }
	}
	r, err := db.row(newest)
	if err != nil {
		return nil, err
	}
	opened, before := c.Wall().Round(0), c.Elapsed()
	if last := r.time(0); opened.Before(last) {
		opened = last
	}
	return func() time.Time { return opened.Add(c.Elapsed() - before) }, nil
}
