package schedule

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func parse(t *testing.T, expression, zone string) Schedule {
	t.Helper()
	s, err := Parse(expression, zone)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// local is how the first n due instants after a wall clock's time read in the zone.
func local(t *testing.T, s Schedule, after string, n int) string {
	t.Helper()
	at, err := time.ParseInLocation("2006-01-02T15:04", after, s.zone)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for range n {
		at = s.Next(at)
		all = append(all, at.In(s.zone).Format("02T15:04-07:00"))
	}
	return strings.Join(all, " ")
}

func TestTimesOfDayAreDueOnceADay(t *testing.T) {
	for _, c := range []struct{ expression, zone, after, want string }{
		// clocks go forwards by an hour at 02:00
		{"30 2 * * *", "Europe/Berlin", "2027-03-27T12:00", "28T03:30+02:00 29T02:30+02:00"},
		{"0 2,3 * * *", "Europe/Berlin", "2027-03-27T12:00", "28T03:00+02:00 29T02:00+02:00"},
		{"*/30 * * * *", "Europe/Berlin", "2027-03-28T01:00", "28T01:30+01:00 28T03:00+02:00"},
		{"15 */2 * * *", "Europe/Berlin", "2027-03-28T00:00", "28T00:15+01:00 28T04:15+02:00"},
		// and back at 03:00
		{"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", "25T02:30+02:00 26T02:30+01:00"},
		{"30 * * * *", "Europe/Berlin", "2026-10-25T01:30", "25T02:30+02:00 25T02:30+01:00 25T03:30+01:00"},
		// back by half an hour at 02:00
		{"0 3 * * *", "Australia/Lord_Howe", "2027-04-03T12:00", "04T03:00+10:30 05T03:00+10:30"},
		{"45 1 * * *", "Australia/Lord_Howe", "2027-04-03T12:00", "04T01:45+11:00 05T01:45+10:30"},
		// a day is left out
		{"0 9 * * *", "Pacific/Apia", "2011-12-28T12:00", "29T09:00-10:00 31T09:00+14:00"},
		// no midnight on that day
		{"0 0 * * *", "America/Sao_Paulo", "2017-10-14T12:00", "15T01:00-02:00 16T00:00-02:00"},
	} {
		n := len(strings.Fields(c.want))
		if got := local(t, parse(t, c.expression, c.zone), c.after, n); got != c.want {
			t.Errorf("%s in %s after %s: %s, want %s", c.expression, c.zone, c.after, got, c.want)
		}
	}
}

func TestDays(t *testing.T) {
	for _, c := range []struct{ expression, after, want string }{
		{"0 0 29 2 *", "2096-03-01T00:00", "2104-02-29"},
		{"0 0 13 * FRI", "2026-11-01T00:00", "2026-11-06"}, // one of both fields is enough, as in cron
		{"0 0 * * FRI", "2026-11-07T00:00", "2026-11-13"},
		{"0 0 31 * *", "2026-11-01T00:00", "2026-12-31"},
		{"0 0 * * 7", "2026-11-30T00:00", "2026-12-06"},
		{"@monthly", "2026-11-30T00:00", "2026-12-01"},
	} {
		after, err := time.Parse("2006-01-02T15:04", c.after)
		if err != nil {
			t.Fatal(err)
		}
		if got := parse(t, c.expression, "").Next(after).Format("2006-01-02"); got != c.want {
			t.Errorf("%s: %s, want %s", c.expression, got, c.want)
		}
	}
}

func TestWhatIsNoScheduleIsRefused(t *testing.T) {
	for _, c := range []struct{ expression, zone, says string }{
		{"0 25 * * *", "", "25"},
		{"* * * *", "", "5 fields"},
		{"@every 1s", "", "five fields"},
		{"TZ=Europe/Berlin 0 3 * * *", "", "tz"},
		{"0 0 30 2 *", "", "never due"},
		{"0 0 * * *", "Europe/Berlinn", "Europe/Berlinn"},
		{"0 0 * * *", "Local", "time zone"},
		{"", "", "empty"},
	} {
		if _, err := Parse(c.expression, c.zone); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q in %q: %v, want it to say %q", c.expression, c.zone, err, c.says)
		}
	}
}

func TestWhatIsMadeUpFor(t *testing.T) {
	s := parse(t, "0 * * * *", "")
	at := func(hour, minute int) time.Time { return time.Date(2026, 11, 1, hour, minute, 0, 0, time.UTC) }
	for _, c := range []struct {
		now     time.Time
		catchup Catchup
		want    []time.Time
	}{
		{at(3, 0), CatchupNone, []time.Time{at(3, 0)}},
		{at(3, 1), CatchupNone, []time.Time{at(3, 0)}},
		{at(3, 2), CatchupNone, nil},
		{at(3, 2), CatchupLast, []time.Time{at(3, 0)}},
		{at(3, 2), CatchupAll, []time.Time{at(1, 0), at(2, 0), at(3, 0)}},
		{at(0, 59), CatchupAll, nil},
	} {
		if got := s.Due(at(1, 0), c.now, c.catchup); !slices.Equal(got, c.want) {
			t.Errorf("%s at %s: %v, want %v", c.catchup, c.now, got, c.want)
		}
	}
	ten := s.Due(at(1, 0), at(1, 0).AddDate(10, 0, 0), CatchupAll)
	if len(ten) != MaxCatchup || !ten[MaxCatchup-1].Equal(at(1, 0).AddDate(10, 0, 0)) {
		t.Errorf("after ten years: %d, the last at %v", len(ten), ten[len(ten)-1])
	}
}

// Walking with Next and looking back with Last find the same instants, in order, and none twice.
func TestNextAndLastAgree(t *testing.T) {
	zones := []string{"UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo", "Pacific/Apia", "Asia/Tehran"}
	expressions := []string{"30 2 * * *", "*/20 * * * *", "0 0 * * *", "15 1-3 * * 0", "5 */6 * * *", "59 23 31 * *"}
	rapid.Check(t, func(r *rapid.T) {
		s, err := Parse(rapid.SampledFrom(expressions).Draw(r, "expression"), rapid.SampledFrom(zones).Draw(r, "zone"))
		if err != nil {
			r.Fatal(err)
		}
		first := time.Unix(rapid.Int64Range(1.2e9, 2.2e9).Draw(r, "first"), 0)
		now := first.Add(time.Duration(rapid.Int64Range(0, int64(80*time.Hour)).Draw(r, "long")))
		var walked []time.Time
		for at := s.Next(first.Add(-1)); !at.After(now) && !at.IsZero(); at = s.Next(at) {
			walked = append(walked, at)
		}
		if !slices.IsSortedFunc(walked, time.Time.Compare) {
			r.Fatalf("not in order: %v", walked)
		}
		if back := s.Last(first, now, 1000); !slices.EqualFunc(walked, back, time.Time.Equal) {
			r.Fatalf("forwards %v, backwards %v", walked, back)
		}
	})
}
