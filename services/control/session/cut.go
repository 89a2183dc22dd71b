package session

import (
	"slices"

	"github.com/pawl-dev/pawl/services/control/model"
)

// How much of a context is what, where neither agent nor model say.
const (
	defaultReserve = 20_000
	defaultKeep    = 8_000
	// maxSummary bounds the text of a summary, in tokens.
	maxSummary = 16_000
	// leastRoom is below what no context can be made smaller in a useful way, in tokens.
	leastRoom = 1_000
	// maxKept bounds what summaries leave as it is, beside recent entries, in tokens.
	maxKept = 64_000
)

// Tokens by which sizes are estimated.
const (
	charsPerToken = 4
	imageTokens   = 1_600
	blockTokens   = 8 // that a message or a block costs beside its text
)

// Settings are what an agent and its model say about the size of contexts, in tokens; 0 is nothing.
type Settings struct {
	Window    int64 // of the model
	MaxOutput int64 // of the model
	Reserve   int64 // what is left free for the answer, and for what an estimate misses
	Keep      int64 // recent entries that a summary leaves as they are
}

// Budget is how large the context of one request may be, in tokens.
type Budget struct {
	Limit int64 // of the whole request; 0 is none
	Keep  int64 // of recent entries that a summary leaves as they are
	Fixed int64 // of the request without its messages: system text and tools
}

// Budget is what the settings come to. The reserve of a small window is a third of it.
func (s Settings) Budget(fixed int64) Budget {
	b := Budget{Keep: s.Keep, Fixed: fixed}
	if b.Keep == 0 {
		b.Keep = defaultKeep
	}
	if s.Window <= 0 {
		return b
	}
	reserve := s.Reserve
	if reserve == 0 {
		if reserve = defaultReserve; s.MaxOutput > 0 {
			reserve = min(reserve, s.MaxOutput)
		}
	}
	if 2*reserve >= s.Window {
		reserve = max(leastRoom, s.Window/3)
	}
	b.Limit = max(s.Window-reserve, 1)
	return b
}

// Within is the budget with a limit of at most that many tokens.
func (b Budget) Within(limit int64) Budget {
	if b.Limit == 0 || limit < b.Limit {
		b.Limit = max(limit, 1)
	}
	return b
}

// room is what is left of the limit for entries that are not kept anyway.
func (b Budget) room(kept int64) int64 { return b.Limit - b.Fixed - kept }

// Tokens is about how many tokens a message takes.
func Tokens(m model.Message) int64 {
	n := int64(blockTokens)
	for _, b := range m.Content {
		n += blockTokens + TextTokens(len(b.Text)+len(b.Args)+len(b.Opaque)+len(b.Tool))
		if b.Image != nil {
			n += imageTokens
		}
	}
	return n
}

// TextTokens is about how many tokens a text of so many bytes takes.
func TextTokens(bytes int) int64 { return int64(bytes+charsPerToken-1) / charsPerToken }

// Estimate is about how many tokens the context of live entries takes: what the provider has counted for the last
// answer that it gave to a context with the same summary, and what came since. fixed is the size of the request without
// messages.
func Estimate(live []Entry, fixed int64) int64 {
	var since, after int64
	if len(live) > 0 && live[0].Kind == Summary {
		after = live[0].Seq
	}
	for i := len(live) - 1; i >= 0; i-- {
		e := &live[i]
		if u := e.Message.Usage; e.Kind == Assistant && e.Seq > after && u != nil && u.Total() > 0 {
			return u.Total() + since
		}
		since += Tokens(e.Message)
	}
	return fixed + since
}

// Cut is what a summary would stand for.
type Cut struct {
	From, To int64
	Covered  []Entry // from From to To, in order
	Keeps    []int64 // see model.Summary
	Summary  int64   // how many tokens the summary may have
}

// Plan decides which of a conversation's live entries a summary should stand for; ok is false when there is nothing
// that one would make smaller. It is a boundary at which every call has its result. What comes after it fits b.Keep or,
// if that takes less than one answer and its results, is just those. The latest input, and what must be kept, is kept
// wherever it is.
func Plan(live []Entry, b Budget) (c Cut, ok bool) {
	fresh, kept := split(live)
	if len(fresh) == 0 {
		return c, false
	}
	stays, keptTokens := exempt(live, b)
	keep := b.Keep
	c.Summary = maxSummary
	if b.Limit > 0 {
		room := b.room(keptTokens)
		if room < leastRoom {
			return c, false
		}
		keep, c.Summary = min(keep, room/4), min(maxSummary, room/4)
	}
	at := boundary(fresh, keep)
	for _, e := range slices.Concat(kept, fresh[:at]) {
		if stays[e.Seq] {
			c.Keeps = append(c.Keeps, e.Seq)
		} else if e.Seq >= fresh[0].Seq {
			ok = true
		}
	}
	if !ok {
		return c, false
	}
	c.Covered = fresh[:at]
	c.From, c.To = fresh[0].Seq, fresh[at-1].Seq
	if live[0].Kind == Summary {
		c.From = live[0].Range().To + 1
	}
	return c, true
}

// Through is the cut with what it covers ending at the nth entry, a boundary.
func (c Cut) Through(n int) Cut {
	c.Covered = c.Covered[:n]
	c.To = c.Covered[n-1].Seq
	c.Keeps = slices.DeleteFunc(slices.Clone(c.Keeps), func(seq int64) bool { return seq > c.To })
	return c
}

// split tells the live entries that no summary stands for from those that one keeps.
func split(live []Entry) (fresh, kept []Entry) {
	if len(live) == 0 || live[0].Kind != Summary {
		return live, nil
	}
	to := live[0].Range().To
	n := 1
	for n < len(live) && live[n].Seq <= to {
		n++
	}
	return live[n:], live[1:n]
}

// exempt is which live entries the model is told as they are, whatever a summary stands for, and how many tokens they
// take: the latest input, what was last seen of the workspace, and what is to be kept, the last ones of it if that is
// more than half of what may be said.
func exempt(live []Entry, b Budget) (seqs map[int64]bool, tokens int64) {
	most := int64(maxKept)
	if b.Limit > 0 {
		most = min(most, (b.Limit-b.Fixed)/2)
	}
	seqs = map[int64]bool{}
	var input, seen bool
	for i := len(live) - 1; i >= 0; i-- {
		e := &live[i]
		first := e.Kind == Input && !input || e.Kind == Workspace && !seen
		size := Tokens(e.Message)
		if !first && (!e.Message.Keep || tokens+size > most) {
			continue
		}
		input, seen = input || e.Kind == Input, seen || e.Kind == Workspace
		seqs[e.Seq] = true
		tokens += size
	}
	return seqs, tokens
}

// attached reports whether an entry belongs to the one before it: no cut comes between them.
func attached(e Entry) bool { return e.Kind == ToolResult || e.Kind.Beside() }

// boundary is how many entries may go: the fewest that leave no more than keep tokens, but not the last answer and its
// results, or the last input.
func boundary(entries []Entry, keep int64) int {
	at := len(entries) - 1
	for at > 0 && attached(entries[at]) {
		at--
	}
	var after int64
	for _, e := range entries[at:] {
		after += Tokens(e.Message)
	}
	best := at
	for i := at - 1; i >= 0; i-- {
		if after += Tokens(entries[i].Message); after > keep {
			break
		}
		if !attached(entries[i]) {
			best = i
		}
	}
	return best
}
