package run

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/rawjson"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/run/drive"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/workflow"
	"github.com/pawl-dev/pawl/services/control/workflow/expr"
)

// Input is a run that somebody asks for, with a field for each thing that can be said of it.
type Input struct {
	// ID is the run's, a UUIDv7; "" makes one. The same start again, with the same id, is the same run.
	ID             string
	Tenant         string
	Workflow       string
	Input          json.RawMessage // nil is {}
	IdempotencyKey string          // within tenant and workflow; "" is none
	Key            string          // the concurrency key, instead of what the definition says; "" is that
	Parent         *Parent
	// Wakes is the lane that rests on the end of the run; "" is none.
	Wakes  string
	Fired  *Fired
	Record *audit.Record // nil is none. It is stored with the admission, but not of a replay or with an error
}

// Start admits a run; it is durable when Start returns. Errors: ErrInputTooLarge, ErrKey, ErrKeyBusy, those of
// Workflows, workflow.ErrInput, submission.ErrIdempotencyConflict, ident.ErrInvalid. Whoever repeats a start with its
// idempotency key is answered with the run, whatever has become of the workflow.
func (s *Service) Start(ctx context.Context, in Input) (Started, error) {
	n, err := s.Prepare(ctx, in)
	if err != nil {
		return s.earlier(ctx, n, err)
	}
	n.Record = named(in.Record, n.ID)
	return s.admit(ctx, n, in.Record)
}

// admit stores a start. An accepted run does not depend on a client that leaves.
func (s *Service) admit(ctx context.Context, n Start, record *audit.Record) (Started, error) {
	ctx = context.WithoutCancel(ctx)
	return s.begin(record, func(owner string) (Started, error) {
		n.Owner = owner
		return s.Store.StartRun(ctx, n)
	})
}

// earlier answers a start that is refused as things are with the run that was started before under its key.
func (s *Service) earlier(ctx context.Context, n Start, refused error) (Started, error) {
	if n.IdempotencyKey == "" || n.InputHash == nil {
		return Started{}, refused
	}
	n.ReplayOnly = true
	got, err := s.Store.StartRun(ctx, n)
	if errors.Is(err, ErrNotFound) {
		return Started{}, refused
	}
	return got, err
}

// Prepare makes what Start admits, for whoever admits it with something else: see Store.Fire. It has no owner and no
// record. After it is admitted Ready is to be called. Errors are those of Start, but for what depends on other runs;
// with one, what says which run is meant is there if it can be.
func (s *Service) Prepare(ctx context.Context, in Input) (Start, error) {
	n := Start{
		ID: cmp.Or(in.ID, ident.New()), SubmissionID: ident.New(), Tenant: cmp.Or(in.Tenant, session.DefaultTenant),
		Workflow: in.Workflow, Parent: in.Parent, Wakes: in.Wakes, Fired: in.Fired,
	}
	if len(in.Input) == 0 {
		in.Input = json.RawMessage("{}")
	}
	if err := checkInput(in.Input); err != nil {
		return n, err
	}
	if err := n.identify(in.IdempotencyKey, in.Input); err != nil {
		return n, err
	}
	digest, def, err := s.Workflows.PinWorkflow(ctx, n.Tenant, n.Workflow)
	if err != nil {
		return n, err
	}
	n.Digest, n.Timeout = digest, def.Timeout
	if n.Input, err = def.Admit(in.Input); err != nil {
		return n, err
	}
	n.Gate, err = s.gate(ctx, def, &n, in.Key)
	return n, err
}

// identify says which run is meant: whoever repeats a request under a key means the same one.
func (n *Start) identify(key string, said any) error {
	if key != "" {
		if err := ident.CheckIdempotencyKey(key); err != nil {
			return err
		}
	}
	body, err := rawjson.Encode(said)
	if err != nil {
		return fmt.Errorf("encoding what was asked for: %w", err)
	}
	hash := sha256.Sum256(canonical(body))
	n.IdempotencyKey, n.InputHash = key, hash[:]
	return nil
}

func checkInput(input json.RawMessage) error {
	switch {
	case len(input) > MaxInput:
		return ErrInputTooLarge
	case !json.Valid(input) || !utf8.Valid(input):
		return workflow.ErrInput.With("the input is not JSON")
	}
	return nil
}

// canonical is JSON without what does not matter: spaces, and the order of names. What is no JSON stays as it is, and
// nothing is null.
func canonical(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("null")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return raw
	}
	sorted, err := rawjson.Encode(v)
	if err != nil {
		return raw
	}
	return sorted
}

// maxKey is how long a concurrency key may be, in bytes.
const maxKey = 512

// gate is the concurrency key of a run, and what it allows; nil is none. said is a key that stands for what the
// definition says.
func (s *Service) gate(ctx context.Context, def *workflow.Definition, n *Start, said string) (*Gate, error) {
	c := def.Concurrency
	if c == nil {
		if said == "" {
			return nil, nil
		}
		c = &workflow.Concurrency{Limit: 1, Policy: workflow.Queue}
	}
	key := said
	if key == "" {
		facts, err := s.Facts(def, Run{
			ID: n.ID, Workflow: n.Workflow, Input: n.Input, Attempt: 1, Parent: n.Parent, Fired: n.Fired,
		})
		if err != nil {
			return nil, err
		}
		v, err := c.Key.Text(ctx, expr.Values{"input": facts.Input, "run": facts.Run, "env": facts.Env})
		if err != nil {
			return nil, ErrKey.With("the concurrency key of workflow %s cannot be evaluated: %v", def.Name, err)
		}
		key = v
	}
	if key != "" { // an empty one is none: so a definition can say that some runs do not count
		if err := ident.CheckText("the concurrency key", key, maxKey); err != nil {
			return nil, ErrKey.With("workflow %s: %v", def.Name, err)
		}
	}
	return gateOf(c, key), nil
}

// gateOf is a key as a definition limits it.
func gateOf(c *workflow.Concurrency, key string) *Gate {
	if key == "" {
		return nil
	}
	g := &Gate{Key: key, Limit: 1}
	if c == nil {
		return g
	}
	g.Limit = c.Limit
	switch c.Policy {
	case workflow.Reject:
		g.Policy = Reject
	case workflow.CancelOldest:
		g.Policy = CancelOldest
	case workflow.Queue:
	}
	return g
}

// Facts is what expressions of a definition can read of a run. What a run has not begun with yet, such as when it has
// started, is not there.
func (s *Service) Facts(def *workflow.Definition, r Run) (drive.Facts, error) {
	input, err := drive.Decode(r.Input)
	if err != nil {
		return drive.Facts{}, fmt.Errorf("reading the input of run %s: %w", r.ID, err)
	}
	f := drive.Facts{
		ID: r.ID, Input: input, Last: r.LastOrd, Env: map[string]any{},
		Run: map[string]any{
			"id": r.ID, "workflow": r.Workflow, "attempt": int64(r.Attempt), "key": r.Key, "cause": r.cause(),
		},
	}
	if !r.StartedAt.IsZero() {
		f.Run["started"] = r.StartedAt.UTC().Format(time.RFC3339Nano)
	}
	if r.Fired != nil {
		f.Run["scheduled_for"] = r.Fired.For.UTC().Format(time.RFC3339Nano)
	}
	for _, name := range def.Env {
		if value, ok := s.Lookup(name); ok {
			f.Env[name] = value
		}
	}
	return f, nil
}

// cause is what has started a run.
func (r *Run) cause() string {
	switch {
	case r.Fired != nil:
		return "schedule"
	case r.Parent != nil:
		return "workflow"
	}
	return "api"
}
