package loop_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// calling is a bench whose model plays these replies behind what a registry puts around a model.
func calling(t *testing.T, replies ...modeltest.Reply) *bench {
	t.Helper()
	b := newBench(t, agent.Shell())
	b.die()
	m := model.Timeouts(modeltest.New(replies...), model.TimeoutPolicy{})
	b.model = model.Retrying(model.Limited(m, &model.Limiter{}), model.RetryPolicy{})
	b.start(agent.Shell())
	return b
}

// logged are all events of a session.
func (b *bench) logged(sessionID string) []event.Event {
	b.Helper()
	page, err := b.store.Events(b.Context(), sessionID, 0, 1000)
	if err != nil {
		b.Fatal(err)
	}
	return page
}

// after is a reply that begins after a while.
func after(d time.Duration, r modeltest.Reply) modeltest.Reply {
	r[0].Wait = d
	return r
}

func limited(d time.Duration) modeltest.Reply {
	return modeltest.Fail(&model.Error{
		Kind: model.KindRateLimited, Retryable: true, RetryAfter: d,
		Text: "slow down, they say",
	})
}

func TestWhatAModelWaitsForIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		replies []modeltest.Reply
		want    []string // reason, and seconds since the submission began, rounded down
		says    string
	}{
		"a quick answer": {replies: []modeltest.Reply{after(14*time.Second, modeltest.Say("done"))}},
		"a slow first token": {
			[]modeltest.Reply{after(50*time.Second, modeltest.Say("done"))},
			[]string{"FIRST_TOKEN 15", "FIRST_TOKEN 30", "FIRST_TOKEN 45"},
			"offline/shell has sent nothing for 45s; the call is given up at ",
		},
		"silence that a comment breaks": {
			[]modeltest.Reply{append(
				modeltest.Reply{{Wait: 10 * time.Second, Part: model.Part{Type: model.PartAlive}}},
				after(10*time.Second, modeltest.Say("done"))...)},
			[]string{"FIRST_TOKEN 15"},
			"has sent nothing for 15s",
		},
		"a rate limit": {
			[]modeltest.Reply{limited(40 * time.Second), modeltest.Say("done")},
			[]string{"RATE_LIMIT 0", "RATE_LIMIT 15", "RATE_LIMIT 30"},
			"waiting for the rate limit of offline/shell until ",
		},
		"a pause in an answer": {
			replies: []modeltest.Reply{append(modeltest.Reply{modeltest.Delta("do")},
				after(50*time.Second, modeltest.Reply{
					modeltest.Delta("ne"),
					{Part: model.Part{Type: model.PartBlock, Block: model.Block{Type: model.TextBlock, Text: "done"}}},
					modeltest.Finish(model.StopEnd),
				})...)},
		},
		"a failure, then silence": {
			[]modeltest.Reply{
				after(20*time.Second, modeltest.Fail(&model.Error{
					Kind: model.KindServer, Retryable: true,
					Text: "oh no",
				})),
				after(20*time.Second, modeltest.Say("done")),
			},
			[]string{"FIRST_TOKEN 15", "RETRY 20", "FIRST_TOKEN"},
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := calling(t, c.replies...)
				began := time.Now()
				sub := b.wait(b.submit("s", "go").ID)
				b.expect(sub, lane.Completed, "done")
				var told []string
				message := ""
				for _, e := range b.logged(sub.SessionID) {
					if e.Type == event.ModelWaiting {
						told = append(told, fmt.Sprintf("%s %d", e.Wait.Reason, e.Time.Sub(began)/time.Second))
						message = e.Wait.Message
						if !e.Wait.Until.After(e.Wait.Since) {
							t.Errorf("%s is from %s to %s", e.Wait.Reason, e.Wait.Since, e.Wait.Until)
						}
					}
				}
				if !slices.EqualFunc(told, c.want, strings.HasPrefix) || !strings.Contains(message, c.says) {
					t.Errorf("told %q %q, want %q %q", told, message, c.want, c.says)
				}
			})
		})
	}
}

// The provider's own words are in the event of a wait and in the settled error.
func TestTheProvidersWordsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := calling(t, limited(time.Minute), limited(time.Hour))
		sub := b.wait(b.submit("s", "go").ID)
		if sub.Outcome != lane.Failed || sub.Reason != "MODEL_RATE_LIMITED" ||
			!strings.HasPrefix(sub.Message, "slow down, they say; it accepts requests again at ") {
			t.Errorf("settled %s %s: %s", sub.Outcome, sub.Reason, sub.Message)
		}
		found := 0
		for _, e := range b.logged(sub.SessionID) {
			if e.Wait != nil && strings.HasSuffix(e.Wait.Message, "slow down, they say") ||
				strings.Contains(e.Text, "slow down, they say") {
				found++
			}
		}
		if found < 2 {
			t.Errorf("%d events tell them", found)
		}
	})
}

// used is what the provider has counted before a call is cut.
var used = modeltest.Step{Part: model.Part{Type: model.PartUsage, Usage: model.Usage{
	Input: 100, Output: 7,
	Cost: model.Cost{Input: 1},
}}}

func cutAfterUse() modeltest.Reply {
	return modeltest.Reply{used, modeltest.Delta("lost"), {Err: &model.Error{
		Kind: model.KindCut, Retryable: true,
		Text: "cut",
	}}}
}

func TestWhatACutCallCostIsCharged(t *testing.T) {
	once := used.Part.Usage
	finish := model.Usage{Input: 10, Output: 5} // of modeltest.Finish
	stay := append(cutAfterUse()[:2], modeltest.Hang())
	for name, c := range map[string]struct {
		replies []modeltest.Reply
		do      func(b *bench, sub submission.Submission)
		want    model.Usage
	}{
		"by the answer after a retry": {
			[]modeltest.Reply{cutAfterUse(), cutAfterUse(), modeltest.Say("done")}, nil, once.Add(once).Add(finish),
		},
		"by the failure": {
			[]modeltest.Reply{{used, {Err: &model.Error{Kind: model.KindRefused, Text: "no"}}}}, nil, once,
		},
		"by an abort": {
			[]modeltest.Reply{stay},
			func(b *bench, sub submission.Submission) {
				if _, err := b.service.Abort(b.Context(), session.DefaultTenant, sub.ID); err != nil {
					b.Fatal(err)
				}
			},
			once,
		},
		"before another owner goes on": {
			[]modeltest.Reply{stay},
			func(b *bench, _ submission.Submission) {
				close(b.drain)
				if err := <-b.done; err != nil {
					b.Fatal(err)
				}
				b.done <- nil
				b.model = modeltest.New(modeltest.Say("done"))
				b.start(agent.Shell())
			},
			once.Add(finish),
		},
		"before the owner dies": {
			[]modeltest.Reply{cutAfterUse(), {modeltest.Hang()}},
			func(b *bench, _ submission.Submission) {
				time.Sleep(10 * time.Second) // the second attempt is under way
				b.die()
				b.model = modeltest.New(modeltest.Say("done"))
				b.start(agent.Shell())
			},
			once.Add(finish),
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := calling(t, c.replies...)
				sub := b.submit("s", "go")
				synctest.Wait()
				if c.do != nil {
					c.do(b, sub)
				}
				if got := b.wait(sub.ID); got.Usage != c.want {
					t.Errorf("settled %s (%s) with %+v, want %+v", got.Outcome, got.Message, got.Usage, c.want)
				}
			})
		})
	}
}
