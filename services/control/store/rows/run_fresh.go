package rows

import (
	"time"

	"github.com/pawl-dev/pawl/services/control/run"
)

// StartRow is the start of a run as it is stored.
type StartRow struct {
	run.Start
	Scope  string // of its idempotency key
	Agent  string // of its session's key
	Inline []byte // the input; nil where it is a blob
	Blob   string // the digest of the input, "" for none
	Body   []byte
	Record *AuditRow
}

// NewStartRow encodes a start.
func NewStartRow(n run.Start) (StartRow, error) {
	if n.Gate != nil && n.Gate.Key == "" {
		n.Gate = nil
	}
	in := newBlob(n.Input)
	r := StartRow{
		Start: n, Scope: startScope(n.Tenant, n.Workflow), Agent: run.Name + n.Workflow, Inline: in.inline,
		Blob: in.digest, Body: in.body,
	}
	if n.Record == nil {
		return r, nil
	}
	record, err := NewAuditRow(*n.Record)
	r.Record = &record
	return r, err
}

// Key is the concurrency key, "" for none.
func (r *StartRow) Key() string { return keyOf(r.Gate) }

// Fresh reports whether the start looks at no other run but those of its concurrency key, and changes none.
func (r *StartRow) Fresh() bool {
	return r.Fork == nil && !r.ReplayOnly && (r.Gate == nil || r.Gate.Policy == run.Queue && r.Gate.Limit > 0)
}

// Run is the run once the start is stored.
func (r *StartRow) Run(now time.Time, blocked, taken bool) run.Run {
	n := run.Run{
		ID: r.ID, Tenant: r.Tenant, Workflow: r.Workflow, Digest: r.Digest, Input: r.Input, Attempt: 1,
		SubmissionID: r.SubmissionID, Blocked: blocked, Key: r.Key(), Parent: r.Parent, Fired: r.Fired, CreatedAt: now,
	}
	if taken {
		n.Status, n.StartedAt = run.Active, now
	}
	return n
}

// startScope is that of the idempotency keys of a workflow.
func startScope(tenant, workflow string) string { return encode([]string{tenant, run.Name + workflow}) }
