package run

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/rawjson"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/run/drive"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// Retrying asks for another attempt of a run that has ended.
type Retrying struct {
	Tenant string
	RunID  string
	From   string // the path of the step to go on from; "" is the first one that has failed
	// Attempt is the one to follow on: the same request again changes nothing then. 0 is the last one.
	Attempt int
	Record  *audit.Record // nil is none. It is stored with the attempt, but not of a replay or with an error
}

// Retry begins another attempt of a run, with the same definition and the same input, that goes on from a step: what
// was completed before it is not done again. It is durable when Retry returns. Errors: ErrNotFound, ErrNotEnded,
// ErrAttempt, ErrKeyBusy, ErrChanged, drive.ErrFrom.
func (s *Service) Retry(ctx context.Context, q Retrying) (Started, error) {
	r, def, err := s.again(ctx, q.Tenant, q.RunID)
	switch {
	case err != nil:
		return Started{}, err
	case q.Attempt > 0 && r.Attempt == q.Attempt+1:
		return Started{Run: r, Replayed: true}, nil
	case q.Attempt > 0 && r.Attempt != q.Attempt:
		return Started{}, ErrAttempt.With("the last attempt of the run is %d, not %d", r.Attempt, q.Attempt)
	case !r.Status.Ended():
		return Started{}, ErrNotEnded
	}
	n := Retry{
		Tenant: r.Tenant, RunID: r.ID, Of: r.SubmissionID, SubmissionID: ident.New(), Timeout: def.Timeout,
		Gate: gateOf(def.Concurrency, r.Key), Record: named(q.Record, r.ID),
	}
	if n.Kept, err = s.kept(ctx, r, def, q.From); err != nil {
		return Started{}, err
	}
	ctx = context.WithoutCancel(ctx) // what is accepted does not depend on a client that leaves
	return s.begin(q.Record, func(owner string) (Started, error) {
		n.Owner = owner
		return s.Store.RetryRun(ctx, n)
	})
}

// Forking asks for a run that begins with what another one has done.
type Forking struct {
	Tenant string
	RunID  string
	From   string          // as in Retrying
	ID     string          // of the new run; "" makes one
	Input  json.RawMessage // an object whose properties take the place of those of the other run's input; nil is {}
	// IdempotencyKey is as of Input.
	IdempotencyKey string
	Record         *audit.Record // as in Input
}

// Fork starts a run with the definition and the input of another one, which goes on from a step: it begins with the
// records of what the other one has completed before that. The other run is left as it is, whether it has ended or not.
// Errors: those of Start and of Retry.
func (s *Service) Fork(ctx context.Context, q Forking) (Started, error) {
	r, def, err := s.again(ctx, q.Tenant, q.RunID)
	if err != nil {
		return Started{}, err
	}
	n := Start{
		ID: cmp.Or(q.ID, ident.New()), SubmissionID: ident.New(), Tenant: r.Tenant, Workflow: r.Workflow,
		Digest: r.Digest, Timeout: def.Timeout,
	}
	if len(q.Input) == 0 {
		q.Input = json.RawMessage("{}")
	}
	if err := checkInput(q.Input); err != nil {
		return Started{}, err
	}
	said := map[string]any{"fork": r.ID, "from": q.From, "input": q.Input}
	if err := n.identify(q.IdempotencyKey, said); err != nil {
		return Started{}, err
	}
	if err := s.copied(ctx, &n, r, def, q); err != nil {
		return s.earlier(ctx, n, err)
	}
	n.Record = named(q.Record, n.ID)
	return s.admit(ctx, n, q.Record)
}

// copied fills in what a run has of another one.
func (s *Service) copied(ctx context.Context, n *Start, r Run, def *workflow.Definition, q Forking) (err error) {
	if n.Input, err = merged(r.Input, q.Input); err != nil {
		return err
	}
	if n.Input, err = def.Admit(n.Input); err != nil {
		return err
	}
	if n.Gate, err = s.gate(ctx, def, n, ""); err != nil {
		return err
	}
	n.Fork = &Fork{RunID: r.ID, Of: r.SubmissionID}
	n.Fork.Kept, err = s.kept(ctx, r, def, q.From)
	return err
}

// again is a run and its definition.
func (s *Service) again(ctx context.Context, tenant, id string) (Run, *workflow.Definition, error) {
	r, err := s.Get(ctx, cmp.Or(tenant, session.DefaultTenant), id)
	if err != nil {
		return r, nil, err
	}
	def, err := s.Workflows.Workflow(ctx, r.Digest)
	if err != nil {
		return r, nil, fmt.Errorf("reading the definition of run %s: %w", id, err)
	}
	return r, def, nil
}

// stepsAtOnce is how many records are read at once, whose outputs are let go.
const stepsAtOnce = 500

// kept is the records of a run that an attempt begins with which goes on from a step.
func (s *Service) kept(ctx context.Context, r Run, def *workflow.Definition, from string) (drive.Kept, error) {
	var all []step.Record
	there := map[int]bool{0: true}
	for after := 0; ; {
		page, err := s.Store.ListSteps(ctx, r.ID, after, stepsAtOnce)
		if err != nil {
			return drive.Kept{}, err
		}
		if len(page) == 0 {
			break
		}
		for _, rec := range page {
			rec.Output = nil
			if !there[rec.Parent] { // records that cannot be read are not in the list
				return drive.Kept{}, drive.ErrFrom.With("the record of what %s is part of cannot be read: start the "+
					"workflow anew", rec.Path)
			}
			all, there[rec.Ord] = append(all, rec), true
		}
		after = page[len(page)-1].Ord
	}
	return drive.Keep(def, all, from)
}

// errMerge says that an input has no properties to replace.
var errMerge = errors.New("it is no object")

// merged is an input with the properties of another object in place of its own.
func merged(input, over json.RawMessage) (json.RawMessage, error) {
	if string(over) == "{}" {
		return input, nil // which may be no object
	}
	all, err := object(input)
	if err == nil {
		var more map[string]any
		if more, err = object(over); err == nil {
			for name, value := range more {
				all[name] = value
			}
		}
	}
	if err != nil {
		return nil, workflow.ErrInput.With("the input cannot be put over that of the run: %v", err)
	}
	return rawjson.Encode(all)
}

func object(raw json.RawMessage) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber() // so that no digit is lost
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	all, ok := v.(map[string]any)
	if !ok {
		return nil, errMerge
	}
	return all, nil
}
