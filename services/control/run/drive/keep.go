package drive

import (
	"regexp"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// ErrFrom refuses to go on from a step.
var ErrFrom = errs.New(errs.FailedPrecondition, "STEP_NOT_RECORDED", "a run cannot go on from that step")

// Kept are records of steps that another attempt of a run, or a copy of it, begins with: their Ords, and those among
// them that are as not ended. What is part of these is needed again to go on.
type Kept struct {
	Records []int
	Reopen  []int
}

// Keep says which of all records of a run another attempt begins with that goes on from a step: "" is the first one
// that has failed. Kept are steps that were completed or skipped before it, and what they are part of. A step that was
// undone is not kept, nor is what came after it in its list, nor steps of catch, finally and undo, which belong to the
// end of the attempt before. Fails with ErrFrom.
func Keep(def *workflow.Definition, records []step.Record, from string) (Kept, error) {
	k := keeper{
		def: def, byOrd: map[int]*step.Record{}, byPath: map[string]*step.Record{}, open: map[int]bool{},
		undone: map[int]bool{},
	}
	for i := range records {
		r := &records[i]
		k.all = append(k.all, r)
		k.byOrd[r.Ord], k.byPath[r.Path] = r, r
	}
	slices.SortFunc(k.all, func(a, b *step.Record) int { return a.Ord - b.Ord })
	for _, r := range k.all {
		if up := k.byOrd[r.Parent]; up != nil && strings.Contains(r.Path[len(up.Path):], ".undo.") {
			k.undone[up.Ord] = true
		}
	}
	first, err := k.from(from)
	if err != nil {
		return Kept{}, err
	}
	for up := first.Parent; up > 0; up = k.byOrd[up].Parent {
		k.open[up] = true
	}
	return k.keep(first), nil
}

type keeper struct {
	def    *workflow.Definition
	all    []*step.Record // by Ord
	byOrd  map[int]*step.Record
	byPath map[string]*step.Record
	open   map[int]bool // what the step to go on from is part of
	undone map[int]bool // of which undoing has begun
}

// from is the record to go on from.
func (k *keeper) from(path string) (*step.Record, error) {
	if path != "" {
		switch r := k.byPath[path]; {
		case r == nil:
			return nil, ErrFrom.With("the run has no record of step %q", path)
		case ends(path):
			return nil, ErrFrom.With("%s runs at the end of an attempt: name a step of the run itself", path)
		default:
			return r, nil
		}
	}
	for _, r := range k.all {
		if !r.State.Ended() || k.broke(r) {
			if !ends(r.Path) && !k.whole(r) {
				return r, nil
			}
		}
	}
	return nil, ErrFrom.With("no step of the run has failed: name the one to go on from")
}

// whole reports whether a record is of what has steps within it.
func (k *keeper) whole(r *step.Record) bool {
	switch r.Kind {
	case KindRound, KindBranch, "group", "parallel", "foreach", "repeat":
		return true
	}
	return false
}

// broke reports whether a step has ended in a way that ends its list.
func (k *keeper) broke(r *step.Record) bool {
	switch r.State {
	case step.Cancelled:
		return true
	case step.Failed, step.Unknown:
		s, ok := k.def.Find(plain(r.Path))
		return !ok || !s.Continue
	case step.Started, step.Completed, step.Skipped:
	}
	return false
}

// keep goes through the records, each after what it is part of.
func (k *keeper) keep(first *step.Record) (out Kept) {
	gone := map[int]bool{}         // records that are not kept
	cut := map[string]bool{}       // lists of which a step is not kept
	kept := map[int]*step.Record{} // by Ord
	for _, r := range k.all {
		list := r.Path[:strings.LastIndexByte(r.Path, '.')+1]
		part := r.Kind == KindRound || r.Kind == KindBranch
		switch {
		case gone[r.Parent], ends(r.Path), cut[list] && !part:
			gone[r.Ord] = true
		case k.open[r.Ord]:
			kept[r.Ord] = r
		case r.Ord >= first.Ord, k.undone[r.Ord], k.broke(r) && !k.whole(r), !r.State.Ended() && !k.whole(r):
			gone[r.Ord] = true
			cut[list] = cut[list] || !part
		default:
			kept[r.Ord] = r
		}
	}
	for _, r := range k.all {
		if kept[r.Ord] == nil {
			continue
		}
		out.Records = append(out.Records, r.Ord)
		if k.open[r.Ord] || k.whole(r) && (k.broke(r) || !r.State.Ended()) {
			out.Reopen = append(out.Reopen, r.Ord)
		}
	}
	return out
}

var indexes = regexp.MustCompile(`\[\d+\]|#\d+`)

// plain is the path of a record in the definition.
func plain(path string) string { return indexes.ReplaceAllString(path, "") }

// ends reports whether a step is one of catch, finally or undo.
func ends(path string) bool {
	for _, word := range strings.Split(path, ".") {
		if word == "catch" || word == "finally" || word == "undo" {
			return true
		}
	}
	return false
}
