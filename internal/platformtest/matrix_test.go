package platformtest_test

import (
	"slices"
	"testing"
)

// A row of the crash matrix (durability.md 2): the fault is injected at exactly its point, outcome is what must come of
// it.
type row struct {
	row     string
	name    string
	outcome string // R resume, Q requeue, U unknown
	run     func(w *world)
}

func TestMatrix(t *testing.T) {
	for _, r := range matrix {
		t.Run(r.row+" "+r.name, func(t *testing.T) { within(t, r.run) })
	}
}

var matrix = slices.Concat(replicaRows, zombieRows, executorRows, copyRows, cloneRows, networkRows, limitRows,
	treeRows)
