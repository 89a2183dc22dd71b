package wire

import (
	"maps"
	"slices"

	"github.com/pawl-dev/pawl/services/control/model"
)

// Anthropic pauses an answer in which it has run its own tools for long. It goes on with it when it is sent a request
// that ends with what came of the answer, exactly as it came, a search without its result too.

// Paused reports whether the provider has paused the answer. One that asks for calls is over, whatever is said of it.
func (d *Decoder) Paused() bool { return d.paused && len(d.calls) == 0 }

// Pause ends what has come of an answer that is paused, and makes d read the response that goes on with it. rest are
// blocks that are sent behind those of the answer, and are none of it.
func (d *Decoder) Pause() (parts []model.Part, rest []model.Block) {
	d.out = d.out[:0]
	d.close()
	running := map[int]*asked{} // indexes begin anew
	for _, index := range slices.Sorted(maps.Keys(d.hosted)) {
		a := d.hosted[index]
		if use := a.block(); use != nil {
			running[-1-len(running)] = a
			rest = append(rest, model.Block{
				Type: model.ThinkingBlock, Opaque: append(append([]byte(`{"blocks":[`), use...), `]}`...),
			})
		}
	}
	d.hosted, d.before, d.usage = running, d.before.Add(d.usage), model.Usage{}
	d.reason, d.stop, d.ended, d.paused, d.counted = "", "", false, false, false
	return d.out, rest
}

// Resume is Body with an answer behind it that was paused.
func (e *Encoder) Resume(head []byte, marked bool, answer []model.Block) [][]byte {
	var parts []content
	for _, b := range answer {
		searched := member(b.Opaque, "blocks") != nil
		if b.Type == model.TextBlock && !blank(b.Text) ||
			b.Type == model.ThinkingBlock && (searched || !e.omit.Thinking) {
			parts = append(parts, content{kind: b.Type, text: b.Text, meta: b.Opaque})
		}
	}
	return e.body(head, marked, parts)
}
