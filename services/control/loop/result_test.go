package loop_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/result"
)

const sized = `{"type": "object", "properties": {"lines": {"type": "integer"}}, "required": ["lines"]}`

const three = `finish: {"lines": 3}`

// want submits a prompt that has to end with a result.
func (b *bench) want(schema, message string) submission.Submission {
	b.Helper()
	got, err := b.service.Submit(b.Context(), submission.Input{
		Key: key("s"), Message: message, Options: lane.Options{ResultSchema: json.RawMessage(schema)},
	})
	if err != nil {
		b.Fatal(err)
	}
	return got.Submission
}

func TestStructuredResults(t *testing.T) {
	bad := strings.Repeat("finish: {\"lines\": \"many\"}\n", result.MaxCorrections)
	idle := strings.Repeat("say: hm\nagain:\n", result.MaxAsks)
	for name, c := range map[string]struct {
		schema, prompt string
		outcome        lane.Outcome
		data, reason   string
		text, message  string
		turns          int
	}{
		"at once": {sized, three, lane.Completed, `{"lines":3}`, "", "", "", 1},
		"with a text": {
			sized, "say: done\n" + three, lane.Completed, `{"lines":3}`, "", "done", "", 1,
		},
		"after work":        {sized, "wc\n" + three, lane.Completed, `{"lines":3}`, "", "", "", 2},
		"beside other work": {sized, "wc\n& " + three + "\n& ls", lane.Completed, `{"lines":3}`, "", "", "", 1},
		"the first counts": {
			sized, three + "\n& finish: {\"lines\": 2}\n& give up: no", lane.Completed, `{"lines":3}`, "", "", "", 1,
		},
		"a valid one after another": {
			sized, "finish: {}\n& finish: {\"lines\": 2}", lane.Completed, `{"lines":2}`, "", "", "", 1,
		},
		"no object": {`{"type": "integer"}`, "finish: 3", lane.Completed, `3`, "", "", "", 1},
		"a definition of its own": {
			`{"$defs": {"n": {"type": "integer"}}, "type": "array", "items": {"$ref": "#/$defs/n"}}`, "finish: [1, 2]",
			lane.Completed, `[1,2]`, "", "", "", 1,
		},
		"a tree": {
			`{"type": ["array", "null"], "items": {"$ref": "#"}}`, "finish: [[1], null]\nfinish: [[], null]",
			lane.Completed, `[[],null]`, "", "", "", 2,
		},
		"any name of an argument": {
			`{"type": "object", "additionalProperties": {"type": "object"}}`, `finish: {"input": {"a": 1}}`,
			lane.Completed, `{"input":{"a":1}}`, "", "", "", 1,
		},
		"corrected": {sized, bad + three, lane.Completed, `{"lines":3}`, "", "", "", 6},
		"corrected too often": {
			sized, bad + "say: sorry\nfinish: {}", lane.Failed, "", result.ReasonInvalid, "sorry",
			"lines: is required", 6,
		},
		"asked again": {sized, idle + `finish: {"lines": 3}`, lane.Completed, `{"lines":3}`, "", "", "", 6},
		"asked again too often": {
			sized, idle + "say: no", lane.Failed, "", result.ReasonInvalid, "no", "6 times", 6,
		},
		"asked again after a wrong one": {
			sized, "finish: {}\n" + idle + "say: no", lane.Failed, "", result.ReasonInvalid, "no",
			"lines: is required", 7,
		},
		"given up": {
			sized, "say: well\ngive up: no lines", lane.Failed, "", result.ReasonGaveUp, "well", "no lines", 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, agent.Shell())
				sub := b.wait(b.want(c.schema, c.prompt).ID)
				b.expect(sub, c.outcome, c.text)
				if string(sub.Data) != c.data || sub.Reason != c.reason || !strings.Contains(sub.Message, c.message) ||
					sub.Turn != c.turns {
					t.Errorf("settled in turn %d with %q: %s %s", sub.Turn, sub.Data, sub.Reason, sub.Message)
				}
				b.expectSettled(sub)
				b.expect(b.wait(b.submit("s", "say: on").ID), lane.Completed, "on") // the conversation goes on
			})
		})
	}
}

// expectSettled checks that the last event of a submission tells what its row tells.
func (b *bench) expectSettled(sub submission.Submission) {
	b.Helper()
	all := b.stream(sub.LaneID)
	z := all[len(all)-1].Settlement
	if z == nil || string(z.Data) != string(sub.Data) || z.EntrySeq != sub.ResultEntry || z.Reason != sub.Reason {
		b.Errorf("the last event tells %+v of %+v", z, sub)
	}
}

// A model that is asked again is made to call a tool, and not before.
func TestACallIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		told := &requests{Model: b.model}
		b.die()
		b.model = told
		b.start(agent.Shell())
		b.wait(b.want(sized, "say: hm\nagain:\nls\n"+three).ID)
		var must []bool
		for _, req := range told.all {
			must = append(must, req.MustCall)
		}
		if fmt.Sprint(must) != "[false true false]" {
			t.Errorf("asked for a call: %v", must)
		}
	})
}

// What an answer asks for beside its result is carried out and in the conversation.
func TestResultsBesideAResultAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		sub := b.wait(b.want(sized, "echo one\n& finish: {\"lines\": 3}\n& echo two").ID)
		entries, err := b.store.Entries(t.Context(), sub.SessionID, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			if e.Kind == session.ToolResult {
				got = append(got, strings.TrimSpace(e.Message.Content[0].Text))
			}
		}
		if fmt.Sprint(got) != "[one The result was accepted. two]" {
			t.Errorf("the results are %q", got)
		}
	})
}

// requests is a model that notes what it is asked.
type requests struct {
	model.Model
	all []model.Request
}

func (r *requests) Stream(ctx context.Context, req model.Request) iter.Seq2[model.Part, error] {
	r.all = append(r.all, req)
	return r.Model.Stream(ctx, req)
}

// Whoever sees the tools sees two more, and the system text tells of them; others see neither.
func TestOnlyWhoWantsAResultIsToldOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		told := &requests{Model: b.model}
		b.die()
		b.model = told
		b.start(agent.Shell())
		b.wait(b.submit("s", "say: hi").ID)
		b.wait(b.want(sized, `finish: {"lines": 3}`).ID)
		without, with := told.all[0], told.all[1]
		if strings.Contains(without.System, result.Instruction) || !strings.HasSuffix(with.System, result.Instruction) {
			t.Errorf("the system texts end with %q", with.System[len(with.System)-200:])
		}
		if n := len(with.Tools); n != len(without.Tools)+2 || with.Tools[n-2].Name != result.NameFinish {
			t.Errorf("the tools are %+v", with.Tools)
		}
	})
}

// A new owner counts what those before it have asked and corrected.
func TestCountsOfAResultOutliveTheirOwner(t *testing.T) {
	const asks = "say: hm\nagain:\nfinish: {}\n"
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		prompt := strings.Repeat(asks, result.MaxCorrections) + "sleep\nsay: no"
		var order *call.Order
		b.executor.on = func(o *call.Order) tool.Reply {
			order = o
			return nil
		}
		sub := b.want(sized, prompt)
		synctest.Wait()
		b.die()
		b.start(agent.Shell())
		b.say(order.Call, "x1", call.Ended{Reply: echo(order)})
		got := b.wait(sub.ID)
		if got.Reason != result.ReasonInvalid || !strings.Contains(got.Message, "6 times") ||
			!strings.Contains(got.Message, "lines: is required") {
			t.Errorf("settled %s: %s", got.Reason, got.Message)
		}
		for _, e := range b.stream(sub.LaneID) {
			if e.Type == event.Settled && e.Settlement.Turn != 12 {
				t.Errorf("after %d turns", e.Settlement.Turn)
			}
		}
	})
}
