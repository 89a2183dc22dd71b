package builtin

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// withTask is what a loop is offered whose agent has sub-agents.
func withTask(t *testing.T, agents ...Agent) tool.Set {
	t.Helper()
	all, err := Tools().With(Task(agents...))
	if err != nil {
		t.Fatal(err)
	}
	return all.Offer([]string{NameTask, NameRead}, 0)
}

func TestTaskIsOfferedWithTheSubAgents(t *testing.T) {
	researcher := Agent{Name: "researcher", Description: "Finds things out."}
	set := withTask(t, researcher, Agent{Name: "plain"})
	if !set.Uses(tool.KindTask) || len(set.Told()) != 2 || set.Told()[1].Name != "task" ||
		!strings.HasSuffix(set.Told()[1].Description, "\n\nSub-agents:\n- researcher: Finds things out.\n- plain") {
		t.Errorf("told %+v", set.Told())
	}
	if none := withTask(t).Told()[1].Description; strings.Contains(none, "Sub-agents:") {
		t.Errorf("told %q", none)
	}
	if Tools().Uses(tool.KindTask) {
		t.Error("task is offered to loops that cannot have sub-agents")
	}
}

func TestTaskRequest(t *testing.T) {
	set := withTask(t, Agent{Name: "researcher"}, Agent{Name: "writer"})
	for args, want := range map[string]TaskRequest{
		`{"prompt":"do it"}`: {Prompt: "do it"},
		`{"description":"it","prompt":"do it","subagent_type":"writer","cwd":"d"}`: {
			Prompt: "do it", Agent: "writer", Description: "it", Cwd: "d",
		},
		`{"task":"do it","agent":""}`: {Prompt: "do it"},
		`"do it"`:                     {Prompt: "do it"},
	} {
		c, err := set.Parse(0, model.Block{Tool: NameTask, Args: json.RawMessage(args)})
		if err != nil || !reflect.DeepEqual(c.Request, want) {
			t.Errorf("%s: got %+v, %v", args, c.Request, err)
		}
	}
	for args, want := range map[string]string{
		`{"prompt":" "}`:                   "prompt: must not be blank",
		`{"prompt":"a","agent":"reader"}`:  "agent: there is no such sub-agent; there are researcher, writer",
		`{"prompt":"a","cwd":"b\u0000c"}`:  "cwd: must not contain a NUL character",
		`{"agent":"writer","cwd":"b"}`:     "prompt: is required",
		`{"prompt":"a","agent":["a","b"]}`: "agent: must be a string, got array",
	} {
		_, err := set.Parse(0, model.Block{Tool: NameTask, Args: json.RawMessage(args)})
		if err == nil || !strings.Contains(err.Error(), "\n  - "+want+"\n\n") {
			t.Errorf("%s: got %v", args, err)
		}
	}
	_, err := withTask(t).Parse(0, model.Block{Tool: NameTask, Args: json.RawMessage(`{"prompt":"a","agent":"b"}`)})
	if err == nil || !strings.Contains(err.Error(), "a copy of yourself does the task") {
		t.Errorf("got %v", err)
	}
}

// The result of a task is the sub-agent's last text, or why there is none.
func TestTaskResult(t *testing.T) {
	asked := withTask(t, Agent{Name: "writer"}).Read(model.Message{Content: []model.Block{{
		Type: model.ToolCallBlock, Tool: NameTask, Args: json.RawMessage(`{"prompt":"a","agent":"writer","cwd":"d"}`),
	}}})[0]
	long := strings.Repeat("word ", tool.MaxText/5) + "end"
	for name, c := range map[string]struct {
		reply tool.Reply
		want  tool.Result
	}{
		"an answer": {
			tool.Answer{Text: "It is done.\n", Details: map[string]string{"session": "s/task:c", "taskId": "c"}},
			tool.Result{
				Text:    "It is done.",
				Details: []byte(`{"agent":"writer","cwd":"d","session":"s/task:c","taskId":"c"}`),
			},
		},
		"no text": {
			tool.Answer{},
			tool.Result{Text: "(no answer)", Details: []byte(`{"agent":"writer","cwd":"d"}`)},
		},
		"a long answer": {
			tool.Answer{Text: long},
			tool.Result{
				Text:    long[:tool.MaxText] + "\n[... 3 more bytes cut ...]",
				Details: []byte(`{"agent":"writer","cwd":"d"}`),
			},
		},
		"a failure": {
			tool.Failure{Reason: "LIMIT_TURNS", Message: "the agent's limit of 3 turns is reached"},
			tool.Result{
				Text: "the agent's limit of 3 turns is reached", IsError: true,
				Details: []byte(`{"agent":"writer","reason":"LIMIT_TURNS"}`),
			},
		},
		"nobody knows": {
			tool.Failure{Reason: tool.ReasonInterrupted},
			tool.Result{Text: task.Lost, IsError: true, Details: []byte(`{"agent":"writer","reason":"INTERRUPTED"}`)},
		},
		"another's reply": {
			tool.WriteReply{},
			tool.Result{Text: task.Lost, IsError: true, Details: []byte(`{"agent":"writer","reason":"INTERRUPTED"}`)},
		},
	} {
		if got := asked.Result(c.reply); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %.100q %v %s, want %.100q %s", name, got.Text, got.IsError, got.Details, c.want.Text,
				c.want.Details)
		}
	}
	secret := tool.Clean(tool.Answer{Text: "it is hunter2hunter2"}, []string{"hunter2hunter2"})
	if got := secret.(tool.Answer).Text; got != "it is [redacted]" {
		t.Errorf("got %q", got)
	}
}
