package rows

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/run"
)

const (
	// runHead is of runs r with their present attempts s and their lanes l. Where there is no abort, one database has
	// NULL and the other 0.
	runHead = `SELECT r.run_id, r.tenant, r.workflow, r.digest, r.attempt, r.submission_id, r.status, r.blocked,
		r.conc_key, r.parent_run, r.parent_path, r.keep, r.schedule, r.scheduled_for, r.forked_from, r.created_at,
		r.started_at, r.ended_at, s.reason, s.message, s.usage,
		COALESCE(CAST(s.abort_requested_at AS text), '0') <> '0', l.state = 1 AND l.due_at > {now}`
	runFrom = ` FROM runs r LEFT JOIN submissions s ON s.submission_id = r.submission_id
		LEFT JOIN lanes l ON l.lane_id = r.run_id `
	runPage = `AND r.run_id < $2 ORDER BY r.run_id DESC LIMIT $3`
)

var (
	getRun = reads(runHead + `, COALESCE((SELECT max(x.ord) FROM run_steps x WHERE x.run_id = r.run_id), 0), r.input,
		r.input_blob, (SELECT b.body FROM run_blobs b WHERE b.run_id = r.run_id AND b.digest = r.input_blob), s.data` +
		runFrom + `WHERE r.run_id = $1 AND r.tenant = $2`)

	listRuns        = reads(runHead + runFrom + `WHERE r.tenant = $1 ` + runPage)
	listRunsOf      = reads(runHead + runFrom + `WHERE r.tenant = $1 AND r.workflow = $4 ` + runPage)
	listRunsByState = reads(runHead + runFrom + `WHERE r.tenant = $1 AND r.status = $4 AND r.status <> 2 ` + runPage)
	listRunsOfState = reads(runHead + runFrom + `WHERE r.tenant = $1 AND r.workflow = $4 AND r.status = $5
		AND r.status <> 2 ` + runPage)
	// Most runs have completed: those are looked for among all.
	listDone      = reads(runHead + runFrom + `WHERE r.tenant = $1 AND r.status + 0 = 2 ` + runPage)
	listDoneOf    = reads(runHead + runFrom + `WHERE r.tenant = $1 AND r.workflow = $4 AND r.status + 0 = 2 ` + runPage)
	listRunsBelow = reads(runHead + runFrom + `WHERE r.tenant || '' = $1 AND r.parent_run = $4 ` + runPage)
	listRunsByKey = reads(runHead + runFrom + `WHERE r.tenant = $1 AND r.workflow = $4 AND r.conc_key = $5
		AND r.conc_key IS NOT NULL ` + runPage)
)

// decodeRun decodes a run as it is in a list.
func (t *Tables) decodeRun(r Row) (run.Run, error) {
	n := run.Run{
		ID: r.text(0), Tenant: r.text(1), Workflow: r.text(2), Digest: r.text(3), Attempt: int(r.int(4)),
		SubmissionID: r.text(5), Status: run.Status(r.int(6)), Blocked: r.bool(7), Key: r.text(8),
		ForkedFrom: r.text(14), CreatedAt: r.time(15), StartedAt: r.time(16), EndedAt: r.time(17),
		Reason: r.text(18), Message: r.text(19), Abort: r.bool(21),
	}
	if s := r.int(6); s < 0 || s > int64(run.Interrupted) {
		return n, fmt.Errorf("decoding run %s: no status %d", n.ID, s)
	}
	n.Resting = n.Status == run.Active && r.bool(22)
	if parent := r.text(9); parent != "" {
		n.Parent = &run.Parent{RunID: parent, Path: r.text(10), Keep: r.bool(11)}
	}
	if at := r.time(13); !at.IsZero() {
		n.Fired = &run.Fired{Index: int(r.int(12)), For: at}
	}
	if err := r.json(20, &n.Usage); err != nil {
		t.Damaged(fmt.Errorf("decoding the usage of run %s: %w", n.ID, err))
	}
	return n, nil
}

// wholeRun decodes a run with its input and its output.
func (t *Tables) wholeRun(r Row) (run.Run, error) {
	n, err := t.decodeRun(r)
	if err != nil {
		return n, err
	}
	n.LastOrd, n.Input = int(r.int(23)), r.blob(24)
	if r.text(25) != "" {
		n.Input = r.blob(26)
	}
	if n.Input != nil && !json.Valid(n.Input) || n.Input == nil && r.text(25) != "" {
		return n, fmt.Errorf("decoding run %s: its input cannot be read", n.ID)
	}
	if data := r.text(27); data != "" {
		n.Output = json.RawMessage(data)
	}
	return n, nil
}

// GetRun implements run.Store.
func (t *Tables) GetRun(ctx context.Context, tenant, id string) (run.Run, error) {
	if !ident.IsUUID(id) {
		return run.Run{}, run.ErrNotFound
	}
	n, err := t.findRun(ctx, t.port, tenant, id)
	return n, wrap("get run", err)
}

func (t *Tables) findRun(ctx context.Context, p Port, tenant, id string) (run.Run, error) {
	return one(ctx, p, t.wholeRun, run.ErrNotFound, getRun, id, tenant)
}

// blob is a text of JSON as it is stored: inline, or as a blob of the digest.
type blob struct {
	inline []byte
	digest string
	body   []byte
}

func newBlob(text []byte) blob {
	if len(text) <= run.Inline {
		return blob{inline: text}
	}
	sum := sha256.Sum256(text)
	return blob{digest: hex.EncodeToString(sum[:]), body: text}
}

// null is text for a column that has NULL instead of nothing.
func null(text []byte) any {
	if text == nil {
		return nil
	}
	return text
}

// ListRuns implements run.Store. It asks for each workflow and status by itself, in order of ids, so that what it costs
// does not grow with what others have.
func (t *Tables) ListRuns(ctx context.Context, f run.Filter) (page []run.Run, err error) {
	before, limit := cmp.Or(f.Before, afterAll), max(f.Limit, 0)
	if !ident.IsUUID(before) || f.Parent != "" && !ident.IsUUID(f.Parent) {
		return nil, nil
	}
	add := func(s Statement, args ...any) {
		if err == nil {
			var some []run.Run
			some, err = list(ctx, t, t.decodeRun, s, append([]any{f.Tenant, before, limit}, args...)...)
			page = append(page, some...)
		}
	}
	switch {
	case f.Parent != "":
		add(listRunsBelow, f.Parent)
		return page, wrap("list runs", err)
	case f.Key != "" && len(f.Workflows) == 1:
		add(listRunsByKey, f.Workflows[0], f.Key)
		return page, wrap("list runs", err)
	case len(f.Workflows) == 0:
		t.listStates(f.Statuses, add, listRuns, listRunsByState, listDone)
	}
	for _, w := range f.Workflows {
		t.listStates(f.Statuses, func(s Statement, args ...any) {
			add(s, append([]any{w}, args...)...)
		}, listRunsOf, listRunsOfState, listDoneOf)
	}
	slices.SortFunc(page, func(a, b run.Run) int { return cmp.Compare(b.ID, a.ID) })
	return page[:min(len(page), limit)], wrap("list runs", err)
}

// listStates asks for runs of any status with all, or for those of each.
func (*Tables) listStates(states []run.Status, ask func(Statement, ...any), all, of, done Statement) {
	if len(states) == 0 {
		ask(all)
	}
	for _, s := range states {
		if s == run.Completed {
			ask(done)
		} else {
			ask(of, int(s))
		}
	}
}
