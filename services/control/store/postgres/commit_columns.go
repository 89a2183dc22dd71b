package postgres

import (
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/session"
)

// commitColumns collects commits as the arrays that the statement's parts unnest.
type commitColumns struct {
	lanes   laneColumns
	entries entryColumns
	calls   callColumns
	changes changeColumns
	lost    bool
	forget  bool
	bind    bool
}

type laneColumns struct {
	ords                                 []int32
	sessions                             []string
	epochs, seqs, entryHeads, eventHeads []int64
	entries, events                      []int32
	segments                             [][]byte
	segmentKinds                         []int16
	executors                            []string
	forgets, progresses                  []bool
	phases, turns                        []int32
	inputEntries                         []int64
	usages                               []*string
	settles, continues, calls            []bool
	outcomes, reasons, messages, models  []string
	resultEntries                        []int64
	cancellations                        []*string
	digests                              [][]byte
	first                                entryColumns // entries; its ords and ns are not used
}

type entryColumns struct {
	ords, ns    []int32
	submissions []*string
	kinds       []string
	bodies      [][]byte
	createdAt   []*time.Time
}

type callColumns struct {
	ords                            []int32
	ids                             []string
	seqs                            []int64
	turns, indexes                  []int32
	entrySeqs                       []int64
	providerIDs, tools              []string
	safeties                        []int16
	hashes                          [][]byte
	executors                       []string
	dispatches                      []int32
	states                          []int16
	replies                         [][]byte
	createdAt, dispatchedAt, doneAt []*time.Time
	journals                        []string
}

type changeColumns struct {
	ords       []int32
	ids        []string
	executors  []string
	dispatches []int32
	states     []*int16
	replies    [][]byte
	journals   []string
}

// add appends the commit with the ordinal i.
func (cols *commitColumns) add(i int, c *commit) {
	ord := int32(i)
	cols.lanes.add(ord, c)
	for n := 1; n < len(c.Entries); n++ {
		cols.entries.ords, cols.entries.ns = append(cols.entries.ords, ord), append(cols.entries.ns, int32(n+1))
		cols.entries.add(c.Entries[n], c.bodies[n])
	}
	for n := range c.Calls {
		cols.calls.add(ord, c.SubmissionSeq, &c.Calls[n])
	}
	for _, d := range c.changes {
		t := &cols.changes
		t.ords, t.ids = append(t.ords, ord), append(t.ids, d.callID)
		t.executors, t.dispatches = append(t.executors, d.executor), append(t.dispatches, int32(d.dispatch))
		t.states, t.replies, t.journals = append(t.states, d.state), append(t.replies, d.reply), append(t.journals,
			d.journal)
		cols.lost = cols.lost || d.lost()
	}
	cols.forget = cols.forget || c.ForgetReplies
	cols.bind = cols.bind || c.Executor != ""
}

func (t *laneColumns) add(ord int32, c *commit) {
	progress, settle := value(c.Progress), value(c.Settle)
	t.ords, t.sessions = append(t.ords, ord), append(t.sessions, c.Fence.SessionID)
	t.epochs, t.seqs = append(t.epochs, c.Fence.Epoch), append(t.seqs, c.SubmissionSeq)
	t.entryHeads, t.eventHeads = append(t.entryHeads, c.EntryHead), append(t.eventHeads, c.EventHead)
	t.entries, t.events = append(t.entries, int32(len(c.Entries))), append(t.events, int32(len(c.Events)))
	t.segmentKinds = append(t.segmentKinds, int16(event.KindOf(c.Events)))
	t.segments, t.executors = append(t.segments, c.segment), append(t.executors, c.Executor)
	t.forgets, t.progresses = append(t.forgets, c.ForgetReplies), append(t.progresses, c.Progress != nil)
	t.phases, t.turns = append(t.phases, int32(progress.Phase)), append(t.turns, int32(progress.Turn))
	t.inputEntries, t.usages = append(t.inputEntries, progress.InputEntry), append(t.usages, c.usage)
	t.settles, t.continues = append(t.settles, c.Settle != nil), append(t.continues, settle.Continue)
	t.outcomes, t.reasons = append(t.outcomes, string(settle.Outcome)), append(t.reasons, printable(settle.Reason))
	t.messages, t.models = append(t.messages, printable(settle.Message)), append(t.models, printable(settle.Model))
	t.resultEntries, t.digests = append(t.resultEntries, settle.ResultEntry), append(t.digests, c.digest)
	t.cancellations, t.calls = append(t.cancellations, c.cancellation), append(t.calls, len(c.Calls) > 0)
	if len(c.Entries) > 0 {
		t.first.add(c.Entries[0], c.bodies[0])
	} else {
		t.first.add(session.Entry{}, nil)
	}
}

func (t *entryColumns) add(e session.Entry, body []byte) {
	t.submissions, t.kinds = append(t.submissions, optional(e.SubmissionID)), append(t.kinds, string(e.Kind))
	t.bodies, t.createdAt = append(t.bodies, body), append(t.createdAt, moment(e.CreatedAt))
}

func (t *callColumns) add(ord int32, seq int64, c *call.Call) {
	if c.SubmissionSeq != 0 {
		seq = c.SubmissionSeq
	}
	t.ords, t.ids, t.seqs = append(t.ords, ord), append(t.ids, c.ID), append(t.seqs, seq)
	t.turns, t.indexes = append(t.turns, int32(c.Turn)), append(t.indexes, int32(c.Index))
	t.entrySeqs, t.providerIDs = append(t.entrySeqs, c.EntrySeq), append(t.providerIDs, printable(c.ProviderID))
	t.tools, t.safeties, t.hashes = append(t.tools, printable(c.Tool)), append(t.safeties,
		int16(c.Safety)), append(t.hashes, c.ArgsHash)
	t.executors, t.dispatches = append(t.executors, c.Executor), append(t.dispatches, int32(c.Dispatch))
	t.states, t.replies = append(t.states, int16(c.State)), append(t.replies, c.Reply)
	t.createdAt, t.dispatchedAt = append(t.createdAt, moment(c.CreatedAt)), append(t.dispatchedAt,
		moment(c.DispatchedAt))
	t.doneAt, t.journals = append(t.doneAt, moment(c.DoneAt)), append(t.journals, printable(c.Journal))
}

func (cols *commitColumns) parts() parts {
	return parts{
		entries: len(cols.entries.ords) > 0, calls: len(cols.calls.ords) > 0, changes: len(cols.changes.ords) > 0,
		lost: cols.lost, forget: cols.forget, bind: cols.bind,
	}
}

// args are the arguments of the statement for parts, with the offset of the clock.
func (cols *commitColumns) args(offset int64) []any {
	l, e, c, d, p := &cols.lanes, &cols.entries, &cols.calls, &cols.changes, cols.parts()
	args := []any{
		l.ords, l.sessions, l.epochs, l.seqs, l.entryHeads, l.eventHeads, l.entries, l.events, l.segments, l.executors, l.forgets,
		l.progresses, l.phases, l.turns, l.inputEntries, l.usages, l.settles, l.continues, l.outcomes, l.reasons, l.messages, l.models,
		l.resultEntries, l.digests, l.first.submissions, l.first.kinds, l.first.bodies, l.first.createdAt,
		l.cancellations, l.segmentKinds, l.calls,
	}
	if p.changes {
		args = append(args, d.ords, d.ids, d.executors, d.dispatches, d.states, d.replies, d.journals)
	}
	args = append(args, offset)
	if p.entries {
		args = append(args, e.ords, e.ns, e.submissions, e.kinds, e.bodies, e.createdAt)
	}
	if p.calls {
		args = append(args, c.ords, c.ids, c.seqs, c.turns, c.indexes, c.entrySeqs, c.providerIDs, c.tools, c.safeties,
			c.hashes,
			c.executors, c.dispatches, c.states, c.replies, c.createdAt, c.dispatchedAt, c.doneAt, c.journals)
	}
	return args
}
