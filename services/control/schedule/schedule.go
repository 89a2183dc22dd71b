// Package schedule says at which instants something is due that is written as a cron expression in a time zone, and
// which of those that were missed are made up for. It is pure: callers bring the time.
//
//	next ──▶ due(next … now) ──catchup──▶ fired, and the next one after now
//
// Where clocks are changed, what a person who wrote the expression expects counts. With an hour that is fixed a time of
// day is due once a day: one that is skipped is due as much later as clocks were moved, and one that comes twice is due
// the first time. With any hour (`*`, `*/2`) time simply goes on: what is skipped is not due, and what comes twice is
// due twice.
package schedule

import (
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // where a machine has none

	cron "github.com/netresearch/go-cron"

	"github.com/pawl-dev/pawl/internal/errs"
)

// ErrInvalid refuses an expression or a time zone.
var ErrInvalid = errs.New(errs.InvalidArgument, "SCHEDULE_INVALID", "the schedule is not one")

// Schedule is a cron expression in a time zone. The zero value is never due.
type Schedule struct {
	fields  cron.SpecSchedule
	anyHour bool // the hour is written with `*`
	zone    *time.Location
}

// horizon is how far Next looks. The 29th of February may be eight years away.
const horizon = 9 * 366

// Parse reads five fields (minute, hour, day of the month, month, day of the week) or one of @hourly, @daily, @weekly,
// @monthly and @yearly. zone is a name of the tz database, "" for UTC. Fails with ErrInvalid.
func Parse(expression, zone string) (Schedule, error) {
	location, err := Zone(zone)
	if err != nil {
		return Schedule{}, err
	}
	parsed, err := cron.ParseStandard(expression)
	if err != nil {
		return Schedule{}, ErrInvalid.WithFacts(map[string]string{"field": "cron"}, "%q are no times of cron: %s",
			expression, strings.Join(strings.Fields(err.Error()), " "))
	}
	fields, ok := parsed.(*cron.SpecSchedule)
	if !ok || strings.Contains(expression, "=") {
		return Schedule{}, ErrInvalid.WithFacts(map[string]string{"field": "cron"}, "%q: write five fields, such as "+
			"\"0 3 * * *\"; an interval is */15 in the first field, and a time zone goes to tz", expression)
	}
	s := Schedule{fields: *fields, zone: location, anyHour: fields.Hour&star != 0}
	if words := strings.Fields(expression); len(words) == 5 {
		s.anyHour = strings.HasPrefix(words[1], "*")
	}
	if s.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return Schedule{}, ErrInvalid.WithFacts(map[string]string{"field": "cron"}, "%q is never due", expression)
	}
	return s, nil
}

// Zone is a time zone of the tz database, UTC for "". Fails with ErrInvalid.
func Zone(name string) (*time.Location, error) {
	z, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return nil, ErrInvalid.WithFacts(map[string]string{"field": "tz"}, "there is no time zone %s: write one such "+
			"as Europe/Berlin", name)
	}
	return z, nil
}

// Next is the first due instant after a time; zero when there is none within nine years.
func (s Schedule) Next(after time.Time) (next time.Time) {
	day := s.dayOf(after).AddDate(0, 0, -1) // what was skipped at its end may be due today
	for range horizon {
		found := !next.IsZero()
		for _, at := range s.on(day) {
			if at.After(after) && (next.IsZero() || at.Before(next)) {
				next = at
			}
		}
		if found {
			break // the day after that with the first one has been looked at, too
		}
		day = day.AddDate(0, 0, 1)
	}
	return next
}

// Last are the last due instants of the time from first to now, both included, in order: at most limit.
func (s Schedule) Last(first, now time.Time, limit int) (all []time.Time) {
	last := s.dayOf(first).AddDate(0, 0, -1)
	enough := false
	for day := s.dayOf(now); !enough && !day.Before(last); day = day.AddDate(0, 0, -1) {
		enough = len(all) >= limit // and the day before may have a later one
		for _, at := range s.on(day) {
			if !at.After(now) && !at.Before(first) {
				all = append(all, at)
			}
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	all = slices.CompactFunc(all, time.Time.Equal)
	return all[max(len(all)-limit, 0):]
}

// dayOf is the day of an instant in the zone, as midnight UTC.
func (s Schedule) dayOf(t time.Time) time.Time {
	y, m, d := t.In(s.location()).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

func (s Schedule) location() *time.Location {
	if s.zone == nil {
		return time.UTC
	}
	return s.zone
}

// star marks a field that was written with `*`.
const star = 1 << 63

// on are the instants that are due because of a day, in order. The last ones may be of the next day.
func (s Schedule) on(day time.Time) (all []time.Time) {
	f := &s.fields
	if !has(f.Month, int(day.Month())) || !s.isDay(day) {
		return nil
	}
	for hour := range 24 {
		if !has(f.Hour, hour) {
			continue
		}
		for minute := range 60 {
			if has(f.Minute, minute) {
				clock := day.Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute)
				all = append(all, s.instants(clock)...)
			}
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	return slices.CompactFunc(all, time.Time.Equal)
}

// isDay applies the rule of cron: of two fields that name days, one is enough.
func (s Schedule) isDay(day time.Time) bool {
	dom, dow := has(s.fields.Dom, day.Day()), has(s.fields.Dow, int(day.Weekday()))
	if s.fields.Dom&star != 0 || s.fields.Dow&star != 0 {
		return dom && dow
	}
	return dom || dow
}

func has(bits uint64, n int) bool { return bits>>uint(n)&1 == 1 }

// instants are when it is a time of day, given as if it were UTC, in the zone: one, or what the package comment says
// where clocks are changed. Clocks are not changed twice within a day.
func (s Schedule) instants(clock time.Time) (all []time.Time) {
	before, after := s.offset(clock.Add(-24*time.Hour)), s.offset(clock.Add(24*time.Hour))
	for _, offset := range []time.Duration{before, after} {
		if at := clock.Add(-offset); s.offset(at) == offset && !slices.ContainsFunc(all, at.Equal) {
			all = append(all, at)
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	switch {
	case s.anyHour:
		return all
	case len(all) == 0:
		return []time.Time{clock.Add(-before)}
	}
	return all[:1]
}

func (s Schedule) offset(at time.Time) time.Duration {
	_, seconds := at.In(s.location()).Zone()
	return time.Duration(seconds) * time.Second
}

// Catchup says what becomes of what was due while nobody looked.
type Catchup string

// Policies.
const (
	CatchupNone Catchup = "none" // nothing
	CatchupLast Catchup = "last" // the last one is made up for
	CatchupAll  Catchup = "all"  // the last MaxCatchup are, in order
)

// MaxCatchup bounds how many are made up for at once.
const MaxCatchup = 100

// Grace is how late something may be noticed and is not missed.
const Grace = time.Minute

// Due are the instants to act on now, in order, where the first that nobody has acted on is next: at most MaxCatchup.
// What is not in it and not after now was missed.
func (s Schedule) Due(next, now time.Time, c Catchup) []time.Time {
	switch c {
	case CatchupAll:
		return s.Last(next, now, MaxCatchup)
	case CatchupLast:
		return s.Last(next, now, 1)
	}
	if fresh := now.Add(-Grace); fresh.After(next) {
		next = fresh
	}
	return s.Last(next, now, MaxCatchup)
}
