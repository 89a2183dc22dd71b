package sqlite

import (
	"slices"

	"github.com/pawl-dev/pawl/services/control/lane"
)

// turns is the tenant that was served last, by kind of lanes. The writer alone uses it.
type turns map[lane.Kind]string

// due finds lanes that are due, those that have waited longest. If more are due than are wanted, tenants take turns:
// of several whose lanes wait, each has some claimed before any has some claimed again.
func (t tx) due(kind lane.Kind, limit int, by *turns) ([]laneRow, error) {
	all, err := t.lanes(selectDue, int64(kind), t.micros(), limit+1)
	if err != nil || len(all) <= limit || limit == 0 {
		return all[:min(limit, len(all))], err
	}
	if *by == nil {
		*by = turns{}
	}
	waiting, err := t.waiting(kind, limit, (*by)[kind])
	if err != nil {
		return nil, err
	}
	var some []laneRow
	for round := 0; len(some) < limit; round++ {
		for _, lanes := range waiting {
			if round < len(lanes) && len(some) < limit {
				some = append(some, lanes[round])
				(*by)[kind] = lanes[round].tenant
			}
		}
	}
	return some, nil
}

// waiting is what is due of each tenant, of those after one in order of their names, and then of the others. It goes
// from tenant to tenant until enough have something, so that what it costs does not grow with what one of them has.
func (t tx) waiting(kind lane.Kind, limit int, after string) (waiting [][]laneRow, err error) {
	begin, wrapped := after, false
	for len(waiting) < limit {
		r, err := t.row(nextTenant, int64(kind), after)
		if err != nil {
			return nil, err
		}
		if r == nil {
			if wrapped {
				break
			}
			after, wrapped = "", true
			continue
		}
		if after = r.text(0); wrapped && after > begin {
			break
		}
		lanes, err := t.lanes(selectDueOf, int64(kind), after, t.micros(), limit)
		if err != nil {
			return nil, err
		}
		if len(lanes) > 0 {
			waiting = append(waiting, slices.Clip(lanes))
		}
	}
	return waiting, nil
}
