package main

import "fmt"

// Row is one line of the result.
type Row struct {
	Database string   `json:"database,omitempty"`
	What     string   `json:"what"`
	P50      Quantity `json:"p50,omitzero"`
	P99      Quantity `json:"p99,omitzero"`
	Rate     Quantity `json:"rate,omitzero"`
	// Floor was measured in the same run: what cannot be undercut, or what it is compared with. Its unit tells what of
	// the row it is the floor of.
	Floor Quantity `json:"floor,omitzero"`
	Goal  Goal     `json:"goal,omitzero"`
}

// Column that a goal is about.
type Column string

// Columns.
const (
	P50   Column = "p50"
	P99   Column = "p99"
	Rate  Column = "rate"
	Over  Column = "over"  // p50 less floor
	Ratio Column = "ratio" // what the floor is of, over the floor
)

// Goal bounds a column on one side. The zero value is none.
type Goal struct {
	Of    Column  `json:"of"`
	Most  float64 `json:"most,omitempty"`
	Least float64 `json:"least,omitempty"`
}

func most(of Column, bound float64) Goal  { return Goal{Of: of, Most: bound} }
func least(of Column, bound float64) Goal { return Goal{Of: of, Least: bound} }

// measured is what the floor is the floor of.
func (r Row) measured() Quantity {
	if r.Rate.Unit == r.Floor.Unit {
		return r.Rate
	}
	return r.P50
}

// Ratio is the measured over the floor; ok is false without a floor.
func (r Row) Ratio() (ratio float64, ok bool) {
	m := r.measured()
	if r.Floor.Value == 0 || m.Unit != r.Floor.Unit {
		return 0, false
	}
	return m.Value / r.Floor.Value, true
}

// column is the value that a goal is about.
func (r Row) column(of Column) (q Quantity, ok bool) {
	switch of {
	case P50:
		q = r.P50
	case P99:
		q = r.P99
	case Rate:
		q = r.Rate
	case Over:
		if r.Floor.Unit != r.P50.Unit {
			return Quantity{}, false
		}
		q = Quantity{r.P50.Value - r.Floor.Value, r.P50.Unit}
	case Ratio:
		v, ok := r.Ratio()
		return Quantity{v, Count}, ok
	}
	return q, q.Unit != ""
}

// Met tells whether the row keeps its goal; ok is false without one, or without what it is about.
func (r Row) Met() (met, ok bool) {
	v, ok := r.column(r.Goal.Of)
	switch {
	case !ok:
		return false, false
	case r.Goal.Least != 0:
		return v.Value >= r.Goal.Least, true
	default:
		return v.Value <= r.Goal.Most, true
	}
}

// cells are the row's texts, in the order of columns.
func (r Row) cells() []string {
	ratio, goal, met := "", "", ""
	if v, ok := r.Ratio(); ok {
		ratio = digits(v) + "×"
	}
	v, _ := r.column(r.Goal.Of)
	if is, ok := r.Met(); ok {
		goal, met = r.Goal.text(v.Unit), map[bool]string{true: "yes", false: "no"}[is]
		if r.Goal.Of == Over {
			met += fmt.Sprintf(" (%s)", v)
		}
	}
	return []string{
		r.Database, r.What, r.P50.String(), r.P99.String(), r.Rate.String(), r.Floor.String(), ratio, goal,
		met,
	}
}

var columns = []string{"database", "what", "p50", "p99", "rate", "floor", "ratio", "goal", "met"}

func (g Goal) text(unit Unit) string {
	sign, bound := "≤", Quantity{g.Most, unit}
	if g.Least != 0 {
		sign, bound = "≥", Quantity{g.Least, unit}
	}
	switch g.Of {
	case Over:
		return fmt.Sprintf("p50 %s floor + %s", sign, bound)
	case Ratio:
		return fmt.Sprintf("ratio %s %s×", sign, bound)
	default:
		return fmt.Sprintf("%s %s %s", g.Of, sign, bound)
	}
}
