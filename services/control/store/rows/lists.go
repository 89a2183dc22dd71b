package rows

import (
	"encoding/json"
	"maps"
	"slices"
)

// pair is a lane's or session's id and a seq in it.
type pair struct {
	id  string
	seq int64
}

// pairs are the rows of {pairs $n}.
type pairs []pair

// pairsOf is a map in the order of ids.
func pairsOf(m map[string]int64) pairs {
	all := make(pairs, 0, len(m))
	for _, id := range slices.Sorted(maps.Keys(m)) {
		all = append(all, pair{id, m[id]})
	}
	return all
}

func (p pairs) json() string {
	all := make([][2]any, len(p))
	for i, one := range p {
		all[i] = [2]any{one.id, one.seq}
	}
	return encode(all)
}

// texts are the rows of {list $n}.
type texts []string

func (t texts) json() string {
	if t == nil {
		t = texts{}
	}
	return encode([]string(t))
}

// encode encodes texts and numbers, which never fails.
func encode(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}
