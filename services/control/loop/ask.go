package loop

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

// answer is what a model's stream has come to.
type answer struct {
	message  model.Message
	done     bool
	spent    model.Usage // of the attempt at hand, as far as the provider has told
	attempts int
	begun    time.Time
	first    time.Duration // from the beginning to the first token, 0 while there is none
}

// item is one pair of a model's stream.
type item struct {
	part model.Part
	err  error
}

// ask calls the model and commits its answer: T2 when it asks for tools, T4 when it is done.
func (l *loop) ask(ctx context.Context) error {
	deps := &l.tree.deps
	if err := l.join(ctx); err != nil {
		return err
	}
	if err := l.catchUp(ctx); err != nil {
		return err
	}
	if ended, err := l.withdrawn(ctx); ended || err != nil {
		return err
	}
	if err := l.refreshTools(ctx); err != nil || l.end.stop != nil {
		return err
	}
	m, err := deps.Models.Model(l.model())
	if err != nil {
		return l.settle(ctx, modelStop(err))
	}
	if err := l.tell(ctx, m); err != nil || l.end.stop != nil {
		return err // stopped, Next decides
	}
	req := l.request()
	place, err := l.takeStream(ctx)
	if err != nil || place == nil {
		return err
	}
	a, err := l.stream(ctx, m, req, place)
	var failed *modelFailure
	switch {
	case err == nil && a.done:
		return l.answered(ctx, req, a)
	case errors.As(err, &failed) && l.mayShorten(failed):
		return l.shorten(req, a, failed)
	case errors.As(err, &failed):
		if to, ok := l.fallback(m, failed.error); ok {
			return l.switchTo(to, failed.error, l.record(req, a, failed.Error()))
		}
		if err := l.Flush(); err != nil {
			return err
		}
		return l.settleWith(ctx, lane.Step{Turn: l.record(req, a, failed.Error())}, l.stopOf(failed))
	}
	return err // without an error: stopped, Next decides
}

// takeStream waits until another answer may stream; nil when the loop is to end, or to stop, before.
func (l *loop) takeStream(ctx context.Context) (place *stream, err error) {
	one := l.tree.streams.ask(l.row.Key.Tenant)
	defer func() {
		if place == nil {
			l.tree.streams.leave(one)
		}
	}()
	select {
	case <-one.granted:
		return one, nil
	default:
	}
	for {
		select {
		case <-one.granted:
			return one, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-l.tree.Leave():
			return nil, nil
		case <-l.Over():
		case <-l.Above():
		case <-l.Timeout():
			l.timedOut()
		}
		if l.checkStop(); l.end.stop != nil {
			return nil, nil
		}
	}
}

// modelFailure is an error of the model, as opposed to one of ours.
type modelFailure struct{ error }

func modelStop(err error) Stop {
	if e, ok := errs.Public(err); ok {
		return Stop{lane.Failed, e.Reason(), e.Error()}
	}
	// The text of a model's error was made safe for callers by package model.
	return Stop{lane.Failed, "MODEL_FAILED", err.Error()}
}

// request is what the model is asked with. Each begins with the one before: the system text and the tools follow from
// the definition and the conversation's first entry, and conversations only grow, until a summary stands for what was
// said.
func (l *loop) request() model.Request {
	messages, memo := l.fitted()
	return l.instructed(model.Request{
		System:   l.system(),
		Messages: messages,
		Tools:    l.tools(),
		Thinking: l.as.def.Thinking,
		CacheKey: l.row.SessionID,
		Memo:     memo,
	})
}

// tools are those that the model is told of.
func (l *loop) tools() []model.Tool {
	told := l.as.Tools.Told()
	if l.as.def.Search {
		told = append(slices.Clip(told), model.WebSearch)
	}
	return told
}

func (l *loop) system() string {
	return agent.SystemPrompt(l.as.def, agent.Surroundings{
		Date: l.conversation.began.UTC().Format("Monday, 2 January 2006"),
	})
}

// stream consumes one answer in its place, and lets another one stream then. It returns early, with done unset, when
// the loop is stopped.
func (l *loop) stream(ctx context.Context, m model.Model, req model.Request, place *stream) (answer, error) {
	defer l.tree.streams.leave(place)
	req, err := l.filled(ctx, req)
	if err != nil {
		return answer{}, err
	}
	parts, stop := l.open(ctx, m, req)
	defer stop()
	a := answer{message: model.Message{Role: model.Assistant}, begun: time.Now(), attempts: 1}
	flush, remind := time.NewTimer(time.Hour), time.NewTimer(waitPeriod)
	defer flush.Stop()
	defer remind.Stop()
	var wait modelWait
	for {
		if due, ok := l.FlushDue(); ok {
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
			if done, err := l.part(&a, i, open); done || err != nil {
				return a, err
			}
		case <-remind.C:
			l.modelWaits(&wait)
		case <-flush.C:
			if err := l.Flush(); err != nil {
				return a, err
			}
		case <-l.News():
			l.SkipNews()
		case <-l.Over():
		case <-l.Above():
		case <-l.Timeout():
			l.timedOut()
		case <-l.tree.Cut():
			l.Push(l.ownerChanged())
			if err := l.charge(&a); err != nil {
				return a, err
			}
			return a, l.goodbye()
		}
		if l.checkStop(); l.end.stop != nil {
			l.count(&a)
			return a, l.Flush()
		}
	}
}

// open begins a call of the model. stop ends it and waits until it has ended.
func (l *loop) open(ctx context.Context, m model.Model, req model.Request) (parts <-chan item, stop func()) {
	call, cancel := context.WithCancel(ctx)
	said := make(chan item, 8) // items are large, and most answers are short
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(said)
		err := contain.Do(func() error { return send(call, said, m.Stream(call, req)) })
		if err == nil {
			return
		}
		l.tree.deps.Log.ErrorContext(ctx, "a panic in a model was contained", "session_id", l.row.SessionID,
			"submission_id", l.row.ID, "model", l.model().String(), "error", err)
		select {
		case said <- item{err: ErrModelPanic}:
		case <-call.Done():
		}
	}()
	return said, func() { cancel(); <-ended }
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
func (l *loop) part(a *answer, i item, open bool) (done bool, err error) {
	switch {
	case !open:
		l.count(a)
		return false, &modelFailure{errors.New("the model's stream ended without a finish")}
	case i.err != nil:
		l.count(a)
		return false, &modelFailure{i.err}
	}
	switch p := i.part; p.Type {
	case model.PartText:
		a.spoke()
		l.says(event.Text, p.Text)
	case model.PartThinking:
		a.spoke()
		l.says(event.Thinking, p.Text)
	case model.PartBlock:
		a.spoke()
		a.message.Content = append(a.message.Content, p.Block)
	case model.PartRestart:
		a.message.Content = nil
		a.attempts++
		l.DropText()
		text := restartText(p)
		l.tree.deps.Log.Info("model call is retried", "submission_id", l.row.ID, "session_id", l.row.SessionID,
			"turn", l.row.Turn, "model", l.model().String(), "reason", text)
		l.Push(l.Event(event.Event{Type: event.Restarted, Reason: "model_retry", Text: text}))
		return false, l.charge(a)
	case model.PartUsage:
		a.spent = p.Usage
	case model.PartFinish:
		ref, usage := l.model(), p.Usage // a pointer into the part would keep all of it
		a.message.Model, a.message.Usage, a.message.Stop, a.done = &ref, &usage, p.Stop, true
		return true, nil
	}
	return false, nil
}

// says shows what the model streams, unless it writes a summary.
func (l *loop) says(t event.Type, text string) {
	if !l.compaction.writes {
		l.Delta(t, text)
	}
}

// spoke notes when the answer began.
func (a *answer) spoke() {
	if a.first == 0 {
		a.first = time.Since(a.begun)
	}
}

// count adds what the provider has told of a call that has come to nothing to the loop's usage, for the next commit.
func (l *loop) count(a *answer) {
	l.row.Usage = l.row.Usage.Add(a.spent)
	l.tree.spend(l, a.spent)
	a.spent = model.Usage{}
}

// charge commits what a call has cost that has come to nothing, with the event that says so, which waits: the loop goes
// on, here or with another owner.
func (l *loop) charge(a *answer) error {
	if a.spent == (model.Usage{}) {
		return nil
	}
	l.count(a)
	spent := l.row.Usage
	return l.Commit(lane.Step{Spent: &spent}, lane.With{})
}

// answered commits an answer.
func (l *loop) answered(ctx context.Context, req model.Request, a answer) error {
	if !l.Watched() {
		l.DropText()
	}
	m := a.message
	l.tree.spend(l, *m.Usage)
	l.tree.answered(l, 1)
	s := lane.Step{
		Progress: &lane.Progress{Phase: lane.PhaseTools, Turn: l.row.Turn, Usage: l.row.Usage.Add(*m.Usage)},
		Turn:     l.record(req, a, ""),
	}
	e := l.entry(&s, session.Assistant, m)
	if asked := l.read(m); len(asked) > 0 {
		return l.callTools(ctx, s, e, asked)
	}
	if l.goesOn(ctx) {
		s.Progress.Phase, s.Progress.Turn = lane.PhaseModel, l.row.Turn+1
		return l.Commit(s, lane.With{})
	}
	if l.structured() {
		return l.insist(ctx, s, e)
	}
	return l.finish(s, Stop{Outcome: lane.Completed}, nil)
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
