package turn

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// drainGrace is how long an answer may go on streaming when the process wants to end.
const drainGrace = 500 * time.Millisecond

// answer is what a model's stream has come to.
type answer struct {
	message model.Message
	done    bool
	spent   model.Usage // of the attempt at hand, as far as the provider has told
}

// item is one pair of a model's stream.
type item struct {
	part model.Part
	err  error
}

// ask calls the model and commits its answer: T2 when it asks for tools, T4 when it is done.
func (r *run) ask(ctx context.Context) error {
	m, err := r.deps.Models.Model(r.def.Model)
	if err != nil {
		return r.settle(ctx, modelStop(err))
	}
	req, err := r.request(ctx)
	if err != nil {
		return err
	}
	a, err := r.stream(ctx, m, req)
	switch {
	case err == nil && a.done:
		return r.answered(ctx, a.message)
	case err == nil, errors.Is(err, errHandedOver), errors.Is(err, submission.ErrFenced), ctx.Err() != nil:
		return err // without an error: stopped, Next decides
	}
	var failed *modelFailure
	if errors.As(err, &failed) {
		if err := r.flush(ctx); err != nil {
			return err
		}
		return r.settle(ctx, modelStop(failed.error))
	}
	return err
}

// modelFailure is an error of the model, as opposed to one of ours.
type modelFailure struct{ error }

func modelStop(err error) Stop {
	if e, ok := errs.Public(err); ok {
		return Stop{submission.Failed, e.Reason(), e.Error()}
	}
	// The text of a model's error was made safe for callers by package model.
	return Stop{submission.Failed, "MODEL_FAILED", err.Error()}
}

// Input is what the model of a submission is asked with at its start: the conversation before an entry, and all but the
// conversation as it would be sent now. executor is the one that the session is bound to, "" for none.
func (w *Worker) Input(
	ctx context.Context, s submission.Submission, before int64, executor string,
) (model.Request, error) {
	def, err := w.deps.Definitions.Definition(ctx, s.AgentDigest)
	if err != nil {
		return model.Request{}, fmt.Errorf("reading the agent's definition: %w", err)
	}
	r := &run{deps: &w.deps, executor: executor, def: def, conversation: &conversation{}}
	r.tools = r.deps.Tools.Offer(def.Tools, def.Limits.CallsOfTurn())
	// the first entry's time is in the prompt
	if err := r.conversation.catchUp(ctx, w.deps.Store, s.SessionID, before); err != nil {
		return model.Request{}, err
	}
	r.fence.SessionID = s.SessionID
	req, err := r.request(ctx)
	req.Messages = r.conversation.messages[:before-1]
	return req, err
}

func (r *run) request(ctx context.Context) (model.Request, error) {
	if r.tools.Uses(tool.KindExecutor) {
		e, ok, err := r.deps.Fleet.Place(ctx, r.wanted())
		if err != nil && !errors.Is(err, fleet.ErrNotFound) {
			return model.Request{}, fmt.Errorf("placing the workspace: %w", err)
		}
		if ok {
			// What was said stays while no executor is there: another prompt would miss the provider's cache.
			r.conversation.cwd = joinCwd(e.Root, r.def.Cwd)
		}
	}
	return model.Request{
		System: agent.SystemPrompt(r.def, agent.Surroundings{
			Cwd:  r.conversation.cwd,
			Date: r.conversation.began.UTC().Format("Monday, 2 January 2006"),
		}),
		Messages: r.conversation.messages,
		Tools:    r.tools.Told(),
		Thinking: r.def.Thinking,
		CacheKey: r.id(),
		Memo:     &r.conversation.memo,
	}, nil
}

// stream consumes one answer. It returns early, with done unset, when the submission is stopped.
func (r *run) stream(ctx context.Context, m model.Model, req model.Request) (answer, error) {
	call, cancel := context.WithCancel(ctx)
	parts := make(chan item, 16)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(parts)
		err := contain.Do(func() error { return send(call, parts, m.Stream(call, req)) })
		if err == nil {
			return
		}
		r.deps.Log.ErrorContext(ctx, "a panic in a model was contained", "session_id", r.id(), "submission_id",
			r.sub.ID,
			"model", r.def.Model.String(), "error", err)
		select {
		case parts <- item{err: ErrModelPanic}:
		case <-call.Done():
		}
	}()
	defer func() { cancel(); <-ended }()

	a := answer{message: model.Message{Role: model.Assistant}}
	flush := time.NewTimer(time.Hour)
	defer flush.Stop()
	var wait modelWait
	remind := time.NewTimer(waitPeriod)
	defer remind.Stop()
	drain := r.drain
	var giveUp <-chan time.Time
	for {
		if due, ok := r.flushDue(); ok {
			flush.Reset(due)
		} else {
			flush.Reset(time.Hour)
		}
		if wait.what != nil {
			remind.Reset(time.Until(wait.next))
		}
		select {
		case <-ctx.Done():
			return a, ctx.Err()
		case i, open := <-parts:
			wait.see(i.part)
			if done, err := r.part(ctx, &a, i, open); done || err != nil {
				return a, err
			}
		case <-remind.C:
			r.modelWaits(&wait)
		case <-flush.C:
			if err := r.flush(ctx); err != nil {
				return a, err
			}
		case <-r.inbox.ready:
			reports, _ := r.inbox.take()
			for _, rep := range reports { // of earlier turns, whose calls are settled
				r.missed(ctx, rep)
			}
		case <-r.expired():
		case <-drain:
			drain, giveUp = nil, time.After(drainGrace)
		case <-giveUp:
			r.push(r.ownerChanged())
			if err := r.charge(ctx, &a); err != nil {
				return a, err
			}
			return a, r.handBack(ctx)
		}
		if r.checkStop(); r.stop != nil {
			r.count(&a)
			return a, r.flush(ctx)
		}
	}
}

// ErrModelPanic is what is told of a model whose code failed.
var ErrModelPanic = errs.New(errs.Internal, "MODEL_PANIC",
	"the code that speaks to the model's provider failed; the server's log has the details")

// send hands on what a model says until it has said all, or ctx ends.
func send(ctx context.Context, parts chan<- item, stream iter.Seq2[model.Part, error]) error {
	for p, err := range stream {
		select {
		case parts <- item{p, err}:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// part adds one part to the answer; done when it is complete.
func (r *run) part(ctx context.Context, a *answer, i item, open bool) (done bool, err error) {
	switch {
	case !open:
		r.count(a)
		return false, &modelFailure{errors.New("the model's stream ended without a finish")}
	case i.err != nil:
		r.count(a)
		return false, &modelFailure{i.err}
	}
	switch p := i.part; p.Type {
	case model.PartText:
		r.delta(event.Text, p.Text)
	case model.PartThinking:
		r.delta(event.Thinking, p.Text)
	case model.PartBlock:
		a.message.Content = append(a.message.Content, p.Block)
	case model.PartRestart:
		a.message.Content = nil
		r.dropText()
		text := restartText(p)
		r.deps.Log.Info("model call is retried", "submission_id", r.sub.ID, "session_id", r.id(), "turn", r.sub.Turn,
			"model", r.def.Model.String(), "reason", text)
		r.push(r.event(event.Event{Type: event.Restarted, Reason: "model_retry", Text: text}))
		return false, r.charge(ctx, a)
	case model.PartUsage:
		a.spent = p.Usage
	case model.PartFinish:
		ref := r.def.Model
		a.message.Model, a.message.Usage, a.message.Stop, a.done = &ref, &p.Usage, p.Stop, true
		return true, nil
	}
	return false, nil
}

// count adds what the provider has told of a call that has come to nothing to the submission's usage, for the next
// commit.
func (r *run) count(a *answer) {
	r.sub.Usage = r.sub.Usage.Add(a.spent)
	a.spent = model.Usage{}
}

// charge commits what a call has cost that has come to nothing, with the event that says so, which waits: the
// submission goes on, here or with another owner.
func (r *run) charge(ctx context.Context, a *answer) error {
	if a.spent == (model.Usage{}) {
		return nil
	}
	r.count(a)
	return r.commit(ctx, submission.Commit{
		Progress: &submission.Progress{Phase: r.sub.Phase, Turn: r.sub.Turn, Usage: r.sub.Usage},
	})
}

// answered commits an answer.
func (r *run) answered(ctx context.Context, m model.Message) error {
	if !r.deps.Events.Watched(r.key) {
		r.dropText()
	}
	progress := submission.Progress{Phase: submission.PhaseTools, Turn: r.sub.Turn, Usage: r.sub.Usage.Add(*m.Usage)}
	c := submission.Commit{Progress: &progress}
	e := r.entry(&c, session.Assistant, m)
	if r.asked = r.tools.Read(m); len(r.asked) > 0 {
		return r.callTools(ctx, c, e)
	}
	return r.end(ctx, c, Stop{Outcome: submission.Completed}, e.Seq)
}

func restartText(p model.Part) string {
	if p.Restart == nil || p.Restart.Err == nil {
		return "the model is asked again"
	}
	if p.Restart.Without != "" {
		return fmt.Sprintf("attempt %d without %s: %v", p.Restart.Attempt, p.Restart.Without, p.Restart.Err)
	}
	return fmt.Sprintf("attempt %d after %s: %v", p.Restart.Attempt, p.Restart.Delay.Round(time.Millisecond),
		p.Restart.Err)
}
