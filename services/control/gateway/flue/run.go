package flue

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/pawl-dev/pawl/internal/rawjson"
)

// RunStatus is how far a run is.
type RunStatus string

// Statuses of a run.
const (
	Active    RunStatus = "active"
	Completed RunStatus = "completed"
	Errored   RunStatus = "errored"
)

// Run is one invocation of a workflow.
type Run struct {
	ID        string // UUIDv7
	Workflow  string
	Status    RunStatus
	StartedAt time.Time
	Payload   json.RawMessage // what it was asked with

	// Of a run that is not active.
	EndedAt time.Time
	Took    time.Duration
	Result  json.RawMessage // of one that completed; nothing is null
	// Error is why one did not complete; nothing when that is not known. FailureOf makes one.
	Error json.RawMessage
}

// WireID is how clients name the run.
func (r Run) WireID() string { return RunID(r.Workflow, r.ID) }

// FailureOf is the error of a run: its name, such as Error or Cancelled, and what it says.
func FailureOf(name, message string) json.RawMessage {
	return raw(failure{Name: name, Message: message})
}

// raw encodes what always can be.
func raw(v any) json.RawMessage {
	b, err := rawjson.Encode(v)
	if err != nil {
		return json.RawMessage("null") // texts, numbers and checked JSON always encode
	}
	return b
}

// null is JSON, or null when there is none.
func null(v json.RawMessage) json.RawMessage {
	if len(bytes.TrimSpace(v)) == 0 {
		return json.RawMessage("null")
	}
	return v
}

type runOwner struct {
	Kind       string `json:"kind"`
	Workflow   string `json:"workflowName"`
	InstanceID string `json:"instanceId"`
}

func (r Run) owner() runOwner { return runOwner{"workflow", r.Workflow, r.WireID()} }

// runRecord is a run in full, runPointer a row of a list of runs.
type (
	runRecord struct {
		RunID      string          `json:"runId"`
		Owner      runOwner        `json:"owner"`
		Status     RunStatus       `json:"status"`
		StartedAt  string          `json:"startedAt"`
		Payload    json.RawMessage `json:"payload"`
		EndedAt    string          `json:"endedAt,omitempty"`
		IsError    *bool           `json:"isError,omitempty"`
		DurationMs *int64          `json:"durationMs,omitempty"`
		Result     json.RawMessage `json:"result,omitempty"`
		Error      json.RawMessage `json:"error,omitempty"`
	}
	runPointer struct {
		RunID      string    `json:"runId"`
		Owner      runOwner  `json:"owner"`
		Status     RunStatus `json:"status"`
		StartedAt  string    `json:"startedAt"`
		EndedAt    string    `json:"endedAt,omitempty"`
		DurationMs *int64    `json:"durationMs,omitempty"`
		IsError    *bool     `json:"isError,omitempty"`
	}
)

func (r Run) pointer() runPointer {
	p := runPointer{RunID: r.WireID(), Owner: r.owner(), Status: r.Status, StartedAt: stamp(r.StartedAt)}
	if r.Status != Active {
		took, failed := r.Took.Milliseconds(), r.Status == Errored
		p.EndedAt, p.DurationMs, p.IsError = stamp(r.EndedAt), &took, &failed
	}
	return p
}

// Record is the run in full, to be encoded.
func (r Run) Record() any {
	p := r.pointer()
	out := runRecord{
		RunID: p.RunID, Owner: p.Owner, Status: p.Status, StartedAt: p.StartedAt, Payload: null(r.Payload),
		EndedAt: p.EndedAt, IsError: p.IsError, DurationMs: p.DurationMs,
	}
	switch r.Status {
	case Completed:
		out.Result = null(r.Result)
	case Errored:
		out.Error = r.Error
	}
	return out
}

// Accepted answers who has started the run and does not wait.
func (r Run) Accepted() any {
	return struct {
		Status string `json:"status"`
		RunID  string `json:"runId"`
	}{"accepted", r.WireID()}
}

// Outcome answers who has waited for the run, which completed.
func (r Run) Outcome() any {
	type meta struct {
		RunID string `json:"runId"`
	}
	return struct {
		Result json.RawMessage `json:"result"`
		Meta   meta            `json:"_meta"`
	}{null(r.Result), meta{r.WireID()}}
}

// Cursor is a place in a list of runs, which are sorted by when they started and by id, the last ones first.
type Cursor struct {
	StartedAt time.Time
	ID        string // UUIDv7
}

// Before reports whether the run comes after the cursor in the list: whether it started before.
func (c Cursor) Before(r Run) bool {
	return cmp.Or(r.StartedAt.Compare(c.StartedAt), cmp.Compare(r.ID, c.ID)) < 0
}

// RunList is a page of runs, to be encoded. more says whether there are others.
func RunList(page []Run, more bool) any {
	list := struct {
		Items []runPointer `json:"items"`
		Next  string       `json:"nextCursor,omitempty"`
	}{Items: make([]runPointer, len(page))}
	for i, r := range page {
		list.Items[i] = r.pointer()
	}
	if more && len(page) > 0 {
		last := page[len(page)-1]
		list.Next = Cursor{last.StartedAt, last.ID}.encode()
	}
	return list
}

type wireCursor struct {
	StartedAt string `json:"s"`
	ID        string `json:"r"`
}

func (c Cursor) encode() string {
	b := raw(wireCursor{c.StartedAt.UTC().Format(time.RFC3339Nano), c.ID})
	return base64.RawURLEncoding.EncodeToString(b)
}

// parseCursor is nil for what cannot be read: the list then begins at its beginning, as the original's does.
func parseCursor(text string) *Cursor {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	var w wireCursor
	if json.Unmarshal(b, &w) != nil || w.ID == "" {
		return nil
	}
	at, err := time.Parse(time.RFC3339Nano, w.StartedAt)
	if err != nil {
		return nil
	}
	return &Cursor{at, w.ID}
}
