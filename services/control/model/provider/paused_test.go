package provider_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
)

// Contents of an answer that Anthropic pauses, as it has them.
const (
	thoughtPart = `{"type":"thinking","thinking":"hm","signature":"c2ln"}`
	firstUse    = `{"id":"srv_1","input":{"query":"a"},"name":"web_search","type":"server_tool_use"}`
	firstFound  = `{"type":"web_search_tool_result","tool_use_id":"srv_1","content":[{"encrypted_content":"E1"}]}`
	saidPart    = `{"type":"text","text":"So far "}`
	secondUse   = `{"id":"srv_2","input":{"query":"b"},"name":"web_search","type":"server_tool_use"}`
	secondFound = `{"type":"web_search_tool_result","tool_use_id":"srv_2","content":[{"encrypted_content":"E2"}]}`
)

// messages is an answer of Anthropic's that is streamed a block at a time.
func messages(stop string, parts ...string) modeltest.Play {
	p := modeltest.Play{{Data: `{"type":"message_start","message":{"usage":{"input_tokens":100}}}`}}
	for i, part := range parts {
		begins := fmt.Sprintf(`{"type":"content_block_start","index":%d,"content_block":%s}`, i, part)
		ends := fmt.Sprintf(`{"type":"content_block_stop","index":%d}`, i)
		p = append(p, modeltest.Event{Data: begins}, modeltest.Event{Data: ends})
	}
	return append(p, modeltest.Event{Data: `{"type":"message_delta","delta":{"stop_reason":"` + stop + `"},"usage":{` +
		`"output_tokens":7,"server_tool_use":{"web_search_requests":1}}}`},
		modeltest.Event{Data: `{"type":"message_stop"}`})
}

// An answer that Anthropic pauses goes on, within one call: what came of it is sent back as it came, and what it has
// cost is the sum.
func TestAPausedAnswerGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modeltest.Anthropic
		s := modeltest.NewServer(t, messages("pause_turn", thoughtPart, firstUse, firstFound, saidPart, secondUse),
			messages("pause_turn", secondFound), messages("end_turn", `{"type":"text","text":"so good."}`))
		req := model.Request{
			Messages: []model.Message{user("hi")}, Tools: []model.Tool{model.WebSearch}, Memo: &model.Memo{},
		}
		m := open(t, w, s)
		tr, err := ask(t, m, req)
		if err != nil {
			t.Fatal(err)
		}
		u := tr.Message.Usage
		if tr.Text != "So far so good." || tr.Message.Stop != model.StopEnd || len(tr.Restarts) != 0 ||
			u.Input != 300 || u.Output != 21 || u.Searches != 3 || u.Cost.Total() == 0 {
			t.Errorf("%q, %s, %+v", tr.Text, tr.Message.Stop, u)
		}
		answered := func(parts ...string) string {
			return `{"role":"assistant","content":[` + strings.Join(parts, ",") + `]}`
		}
		all := []string{thoughtPart, firstUse, firstFound, saidPart, secondUse}
		for i, want := range []string{
			answered(all...) + "]}", answered(append(all, secondFound)...) + "]}",
		} {
			if raw := string(s.Requests()[i+1].Body); !strings.HasSuffix(raw, want) || !json.Valid([]byte(raw)) {
				t.Errorf("request %d:\n%s\nwant an end of\n%s", i+1, raw, want)
			}
		}
		// The conversation goes on as if there had been no pause.
		tr.Message.Model = ptr(m.Ref())
		req.Messages = append(req.Messages, tr.Message, user("go on"))
		s.Always(messages("end_turn", `{"type":"text","text":"x"}`))
		if _, err := ask(t, m, req); err != nil {
			t.Fatal(err)
		}
		want := answered(append(all, secondFound, `{"type":"text","text":"so good."}`)...)
		if raw := string(s.Requests()[3].Body); !strings.Contains(raw, want) {
			t.Errorf("the next request is\n%s\nwant in it\n%s", raw, want)
		}
	})
}

func ptr[T any](v T) *T { return &v }

// An answer that is paused again and again ends as one that was cut at its length.
func TestAnAnswerThatIsPausedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := modeltest.NewServer(t)
		s.Always(messages("pause_turn", `{"type":"text","text":"x"}`))
		tr, err := ask(t, open(t, modeltest.Anthropic, s), model.Request{})
		if n := len(s.Requests()); err != nil || tr.Message.Stop != model.StopLength || n != 17 ||
			tr.Text != strings.Repeat("x", n) {
			t.Errorf("%d requests, %q, %v", n, tr.Text, err)
		}
	})
}

// When what goes on with a paused answer fails, the call is made anew, and watchers are told that nothing of it stays.
// It may be as silent as any call before its first event.
func TestAPausedAnswerThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := messages("end_turn", `{"type":"text","text":"done"}`)
		slow[0].Wait = 3 * time.Minute
		s := modeltest.NewServer(t, messages("pause_turn", saidPart),
			modeltest.Answer(529, modeltest.Anthropic.Error("overloaded_error", "Overloaded")),
			messages("pause_turn", saidPart), slow)
		m := model.Retrying(model.Timeouts(open(t, modeltest.Anthropic, s), model.TimeoutPolicy{}), model.RetryPolicy{})
		tr, err := ask(t, m, model.Request{})
		if err != nil || tr.Text != "So far done" || len(tr.Restarts) != 1 || tr.Message.Usage.Input != 200 {
			t.Fatalf("%+v, %v", tr, err)
		}
		asked := s.Requests()
		if string(asked[0].Body) != string(asked[2].Body) || string(asked[1].Body) != string(asked[3].Body) {
			t.Errorf("asked anew with\n%s\nand\n%s", asked[2].Body, asked[3].Body)
		}
	})
}
