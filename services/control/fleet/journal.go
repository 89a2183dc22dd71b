package fleet

import "slices"

// Journal is an executor's journal as far as control has heard of it.
//
//	the incarnations of a Hello, newest first:   i7   i6 ── known ──▶ continues: a later start on the journal
//	                                             i7   i5              forks: a copy, or an older state, of it
//
// A copy that was taken while the known incarnation ran lists it too. It has begun fewer calls by then than control has
// heard of.
type Journal struct {
	Name        string // what the executor calls it
	Incarnation string // of the last Hello
	Begun       int64  // calls that it has begun, at least
}

// Incarnation is one start of an executor on its journal, as a Hello lists it.
type Incarnation struct {
	ID    string
	Begun int64 // calls that the journal had begun at its end, or has begun by now
}

// Kin is what a journal that says Hello is to the one that is known.
type Kin int

// Kinships.
const (
	// Unknown: nothing was known.
	Unknown Kin = iota
	// Same is the process that is known.
	Same
	// Successor is a later start on the same journal.
	Successor
	// Other is another journal: the data directory is another one, or was lost.
	Other
	// Fork is a copy of the known journal, or an older state of it.
	Fork
)

// Compare tells what a journal is to the known one. incarnations are those of its Hello, newest first.
func (known Journal) Compare(name string, incarnations []Incarnation) Kin {
	switch {
	case known.Name == "":
		return Unknown
	case known.Name != name:
		return Other
	}
	at := slices.IndexFunc(incarnations, func(i Incarnation) bool { return i.ID == known.Incarnation })
	switch {
	case at < 0, incarnations[at].Begun < known.Begun:
		return Fork
	case at == 0:
		return Same
	}
	return Successor
}
