package tool

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/model"
)

// controlled is a call of a tool that this process carries out.
func controlled(t *testing.T, safety Safety, run Run) Call {
	t.Helper()
	s := spec("note")
	s.Safety = safety
	s.How = ByControl(run, func(words, Answer) Result { return Result{} })
	return Call{ID: "the call", Tool: define(t, s), Request: words{Said: "hello"}}
}

func TestControlCarriesOutACall(t *testing.T) {
	c := controlled(t, AtMostOnce, func(_ context.Context, c Call) (Reply, error) {
		return Answer{Text: c.ID + " says " + c.Request.(words).Said}, nil
	})
	if c.Tool.Kind() != KindControl {
		t.Errorf("it is of kind %s", c.Tool.Kind())
	}
	got, err := c.Run(t.Context(), slog.New(slog.DiscardHandler))
	if answer, ok := got.(Answer); err != nil || !ok || answer.Text != "the call says hello" {
		t.Errorf("got %#v, %v", got, err)
	}
}

// A reply fits a call if its tool shows such replies.
func TestWhichRepliesFitACall(t *testing.T) {
	known := Call{Tool: define(t, spec("say")), Request: words{}}
	command := func(Exec, ExecReply) Result { return Result{} }
	gone := Accepted(model.Block{Tool: "say"}, KindExecutor, Pure, command).Call
	for name, c := range map[string]struct {
		reply       Reply
		known, gone bool
	}{
		"an answer": {Answer{}, true, true},
		"a failure": {Failure{}, true, true},
		"a file":    {TextReply{}, false, false},
		"a command": {ExecReply{}, false, true},
		"nothing":   {nil, false, false},
	} {
		if known.Fits(c.reply) != c.known || gone.Fits(c.reply) != c.gone {
			t.Errorf("%s: %v, %v", name, known.Fits(c.reply), gone.Fits(c.reply))
		}
	}
	if other := (Call{Tool: known.Tool, Request: Exec{}}); other.Fits(Answer{}) {
		t.Error("an answer to another request fits")
	}
}

// Whatever a function does becomes an outcome that can be recorded, and the model hears nothing that is for the log.
func TestWhatAFunctionCannotDoIsAFailure(t *testing.T) {
	refused := errs.New(errs.NotFound, "NO_SKILL", "no such skill")
	for name, c := range map[string]struct {
		run    Run
		want   Failure
		logged string
	}{
		"an error with a reason": {
			func(context.Context, Call) (Reply, error) { return nil, refused },
			Failure{Reason: "NO_SKILL", Message: "no such skill"},
			"",
		},
		"any other error": {
			func(context.Context, Call) (Reply, error) { return nil, errors.New("secret path") },
			Failure{Reason: "INTERNAL", Message: errFailed.Error()},
			"secret path",
		},
		"a panic": {
			func(context.Context, Call) (Reply, error) { panic("secret path") },
			Failure{Reason: "INTERNAL", Message: errFailed.Error()},
			"secret path",
		},
		"nothing": {
			func(context.Context, Call) (Reply, error) { return nil, nil },
			Failure{Reason: "INTERNAL", Message: errFailed.Error()},
			"the call",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var logged bytes.Buffer
			got, err := controlled(t, Pure, c.run).Run(t.Context(), slog.New(slog.NewTextHandler(&logged, nil)))
			if err != nil || got != c.want {
				t.Errorf("got %#v, %v", got, err)
			}
			if (c.logged == "") != (logged.Len() == 0) || !strings.Contains(logged.String(), c.logged) {
				t.Errorf("the log has %q", logged.String())
			}
		})
	}
}

// A function that was stopped has no outcome; one that ended while it was stopped has.
func TestAFunctionThatWasStoppedHasNoOutcome(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stopped := controlled(t, Pure, func(ctx context.Context, _ Call) (Reply, error) {
		cancel()
		<-ctx.Done()
		return nil, errors.New("stopped")
	})
	if got, err := stopped.Run(ctx, slog.New(slog.DiscardHandler)); !errors.Is(err, context.Canceled) || got != nil {
		t.Errorf("got %#v, %v", got, err)
	}
	ended := controlled(t, Pure, func(context.Context, Call) (Reply, error) { return Answer{Text: "done"}, nil })
	if got, err := ended.Run(ctx, slog.New(slog.DiscardHandler)); err != nil || got.(Answer).Text != "done" {
		t.Errorf("got %#v, %v", got, err)
	}
}

// A new owner cannot know whether the function of a call that is not ended has run.
func TestACallWhoseOwnerIsGoneRunsAgainIfItMay(t *testing.T) {
	for _, safety := range []Safety{AtMostOnce, Idempotent, Pure} {
		ran := 0
		c := controlled(t, safety, func(context.Context, Call) (Reply, error) {
			ran++
			return Answer{Text: "done"}, nil
		})
		got, err := c.RunAgain(t.Context(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if lost := EndingOf(got) == Unseen; lost != (safety == AtMostOnce) || (ran == 0) != lost {
			t.Errorf("%s: ran %d times, and %#v is recorded", safety, ran, got)
		}
	}
}
