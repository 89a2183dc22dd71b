// Package modeltest has what tests of and with models need: a contract suite that every Model must pass, a scripted
// Model, and servers that speak the streaming protocols of providers in memory, so that all of it runs on fake time in
// a synctest bubble.
package modeltest

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
)

// Ref is the name of a Scripted model.
var Ref = model.Ref{Provider: "test", ID: "scripted"}

// Reply is what a Scripted model does in one call: it plays the steps in order.
type Reply []Step

// Step is one thing that happens in a call. Wait comes first, then one of the others.
type Step struct {
	Wait time.Duration
	Part model.Part
	Err  error
	Hang bool // until the context ends
}

// Say is a reply that streams text, one delta for each string, and finishes.
func Say(deltas ...string) Reply {
	var r Reply
	text := ""
	for _, d := range deltas {
		text += d
		r = append(r, Step{Part: model.Part{Type: model.PartText, Text: d}})
	}
	return append(r,
		Step{Part: model.Part{Type: model.PartBlock, Block: model.Block{Type: model.TextBlock, Text: text}}},
		Finish(model.StopEnd))
}

// Ask is a reply that asks for tool calls and finishes.
func Ask(calls ...model.Block) Reply {
	var r Reply
	for _, c := range calls {
		c.Type = model.ToolCallBlock
		r = append(r, Step{Part: model.Part{Type: model.PartBlock, Block: c}})
	}
	return append(r, Finish(model.StopTools))
}

// Fail is a reply that is an error.
func Fail(err error) Reply { return Reply{{Err: err}} }

// Hang is a step that waits for the end of the context.
func Hang() Step { return Step{Hang: true} }

// Delta is a step that streams some text.
func Delta(text string) Step { return Step{Part: model.Part{Type: model.PartText, Text: text}} }

// Finish is the last step of a reply.
func Finish(stop model.Stop) Step {
	return Step{Part: model.Part{Type: model.PartFinish, Stop: stop, Usage: model.Usage{Input: 10, Output: 5}}}
}

// Scripted is a Model that plays one reply for each call. Safe for concurrent use.
type Scripted struct {
	mu       sync.Mutex
	replies  []Reply
	always   Reply // when there are no replies left
	requests []model.Request
	window   int64
}

// New is a model that answers its calls with these replies, in order. A call too many fails.
func New(replies ...Reply) *Scripted { return &Scripted{replies: replies} }

// Always is a model that answers each call with the same reply.
func Always(r Reply) *Scripted { return &Scripted{always: r} }

// WithWindow sets the context window.
func (s *Scripted) WithWindow(tokens int64) *Scripted {
	s.window = tokens
	return s
}

// Add appends replies.
func (s *Scripted) Add(replies ...Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replies = append(s.replies, replies...)
}

// Requests are the calls so far.
func (s *Scripted) Requests() []model.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]model.Request(nil), s.requests...)
}

// Ref implements model.Model.
func (s *Scripted) Ref() model.Ref { return Ref }

// API implements model.Model.
func (s *Scripted) API() model.API { return model.APIOffline }

// Window implements model.Model.
func (s *Scripted) Window() int64 { return s.window }

// MaxOutput implements model.Model.
func (s *Scripted) MaxOutput() int64 { return 0 }

// Stream implements model.Model.
func (s *Scripted) Stream(ctx context.Context, req model.Request) iter.Seq2[model.Part, error] {
	return func(yield func(model.Part, error) bool) {
		for _, step := range s.next(req) {
			p, err := step.play(ctx)
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

func (s *Scripted) next(req model.Request) Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, req)
	switch {
	case len(s.replies) > 0:
	case s.always != nil:
		return s.always
	default:
		return Fail(&model.Error{Kind: model.KindFailed, Text: "modeltest: a call too many"})
	}
	r := s.replies[0]
	s.replies = s.replies[1:]
	return r
}

func (s Step) play(ctx context.Context) (model.Part, error) {
	if s.Wait > 0 {
		t := time.NewTimer(s.Wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	if s.Hang {
		<-ctx.Done()
	}
	if err := ctx.Err(); err != nil {
		return model.Part{}, errors.Join(errors.New("modeltest: interrupted"), err)
	}
	return s.Part, s.Err
}
