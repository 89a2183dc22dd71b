package postgres

import (
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/lane"
)

// commitRows is a batch of commits as rows of what they write. It has fields for all that a commit can write.
type commitRows struct {
	lanes, binds   []laneRow
	begins         []beginRow
	steps          []stepRow
	joins          []joinRow
	entries        []entryRow
	images         []imageRow
	calls          []callRow
	changes        []changeRow
	shown          []shownRow
	approvals      []approvalRow
	notes          []noteRow
	turns          []turnRow
	prefixes       []prefixRow
	records, blobs []recordRow
	folds          []foldRow
	signals        []signalRow
	forgets, ended []string // loops
	ends           bool     // a loop ends
	runs           []string // whose attempts may end
}

// add appends the commit with the ordinal i.
func (rows *commitRows) add(i int, c *commit) {
	rows.lanes = append(rows.lanes, laneRow{c, int32(i)})
	rows.ends = rows.ends || c.ended != ""
	if c.ended != "" && c.Kind == lane.KindRun {
		rows.runs = append(rows.runs, c.Fence.LaneID)
	}
	if c.Executor != "" {
		rows.binds = append(rows.binds, laneRow{c, int32(i)})
	}
	for n := range c.steps {
		row := stepRow{step: &c.steps[n], lane: c.Fence.LaneID}
		rows.steps = append(rows.steps, row)
		if row.Begin != nil {
			rows.begins = append(rows.begins, beginRow{row, c.EventHead})
		}
		if row.End != nil && !row.endsAtOnce() {
			rows.ended = append(rows.ended, row.LoopID)
		}
		if row.ForgetReplies {
			rows.forgets = append(rows.forgets, row.LoopID)
		}
		rows.addStep(row)
	}
}

// addStep appends what a step writes beside the row of its loop.
func (rows *commitRows) addStep(p stepRow) {
	rows.addRun(p)
	for _, j := range p.Joins {
		rows.joins = append(rows.joins, joinRow{j, p.lane, p.LoopID})
	}
	for _, e := range p.Entries {
		rows.entries = append(rows.entries, entryRow{e, p.lane, p.SessionID})
		for _, i := range e.Images {
			rows.images = append(rows.images, imageRow{i, p.lane, p.SessionID})
		}
	}
	for i := range p.Calls {
		rows.calls = append(rows.calls, callRow{&p.Calls[i], p.lane, p.LoopID})
	}
	forgets := ""
	if p.ForgetReplies {
		forgets = p.LoopID
	}
	for i := range p.changes {
		rows.changes = append(rows.changes, changeRow{&p.changes[i], p.lane, forgets})
	}
	for _, shown := range p.shown {
		rows.shown = append(rows.shown, shownRow{shown, p.lane})
	}
	for i := range p.Approvals {
		rows.approvals = append(rows.approvals, approvalRow{&p.Approvals[i], p.lane, p.subjects[i]})
	}
	for _, note := range p.Noted {
		rows.notes = append(rows.notes, noteRow{note, p.lane})
	}
	if p.Turn == nil {
		return
	}
	rows.turns = append(rows.turns, turnRow{p.Turn, p.lane, p.LoopID, p.turnUsage})
	if p.Turn.PrefixBody != nil {
		rows.prefixes = append(rows.prefixes, prefixRow{p.lane, p.Turn.Prefix, p.Turn.PrefixBody})
	}
}

// queue queues the statements of the transaction; moved takes the lanes that came back.
func (rows *commitRows) queue(b *pgx.Batch, flush string, now time.Time, moved func(pgx.Rows) error) {
	b.Queue(lanesSQL, laneTable.args(rows.lanes, flush, now)...).Query(moved)
	if len(rows.forgets) > 0 {
		b.Queue(forgetSQL, flush, rows.forgets)
	}
	queue(b, beginsSQL, beginTable, rows.begins, flush, now)
	loops := loopsSQL
	if rows.ends {
		loops = endingLoopsSQL
	}
	queue(b, loops, loopTable, rows.steps, flush, now)
	if len(rows.ended) > 0 {
		b.Queue(treesSQL, flush, rows.ended)
	}
	queue(b, joinsSQL, joinTable, rows.joins, flush, now)
	queue(b, entriesSQL, entryTable, rows.entries, flush, now)
	queue(b, imagesSQL, imageTable, rows.images, flush)
	queue(b, callsSQL, callTable, rows.calls, flush, now)
	queue(b, approvalsSQL, approvalTable, rows.approvals, flush, now)
	queue(b, notesSQL, noteTable, rows.notes, flush, now)
	queue(b, changesSQL, changeTable, rows.changes, flush, now)
	queue(b, shownSQL, shownTable, rows.shown, flush)
	queue(b, prefixesSQL, prefixTable, rows.prefixes, flush, now)
	queue(b, turnsSQL, turnTable, rows.turns, flush, now)
	queue(b, bindSQL, bindTable, rows.binds, flush)
	queue(b, foldsSQL, foldTable, rows.folds, flush)
	queue(b, stepsSQL, runStepTable, rows.records, flush, now)
	queue(b, blobsSQL, blobTable, rows.blobs, flush)
	queue(b, signalsSQL, signalTable, rows.signals, flush)
}

// queue queues a statement that has something to write.
func queue[R any](b *pgx.Batch, statement string, t table[R], rows []R, before ...any) {
	if len(rows) > 0 {
		b.Queue(statement, t.args(rows, before...)...)
	}
}
