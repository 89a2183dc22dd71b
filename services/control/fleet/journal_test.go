package fleet

import "testing"

func TestJournalCompare(t *testing.T) {
	known := Journal{Name: "j", Incarnation: "i6", Begun: 10}
	for name, c := range map[string]struct {
		known Journal
		name  string
		chain []Incarnation
		want  Kin
	}{
		"the first Hello":              {Journal{}, "j", []Incarnation{{"i1", 0}}, Unknown},
		"a reconnect":                  {known, "j", []Incarnation{{"i6", 10}, {"i5", 7}}, Same},
		"a reconnect after more calls": {known, "j", []Incarnation{{"i6", 12}, {"i5", 7}}, Same},
		"a restart":                    {known, "j", []Incarnation{{"i7", 10}, {"i6", 10}}, Successor},
		"restarts while control was away": {known, "j", []Incarnation{{"i9", 15}, {"i8", 12}, {"i7", 11}, {
			"i6",
			11,
		}}, Successor},
		"a copy of before the incarnation": {known, "j", []Incarnation{{"i7", 7}, {"i5", 7}}, Fork},
		"a copy of while it ran":           {known, "j", []Incarnation{{"i7", 9}, {"i6", 9}}, Fork},
		"one that has begun calls since":   {known, "j", []Incarnation{{"i7", 20}, {"i6", 9}}, Fork},
		"a machine that was set back":      {known, "j", []Incarnation{{"i6", 9}, {"i5", 7}}, Fork},
		"more restarts than are listed":    {known, "j", []Incarnation{{"i90", 10}, {"i89", 10}}, Fork},
		"another data directory":           {known, "k", []Incarnation{{"i6", 10}}, Other},
		"an executor that lists nothing":   {known, "j", nil, Fork},
		"what it had begun is not its end": {Journal{"j", "i5", 8}, "j", []Incarnation{{"i6", 10}, {"i5", 7}}, Fork},
		"it has begun no call since it began": {
			Journal{"j", "i5", 7},
			"j",
			[]Incarnation{{"i6", 7}, {"i5", 7}},
			Successor,
		},
	} {
		if got := c.known.Compare(c.name, c.chain); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
