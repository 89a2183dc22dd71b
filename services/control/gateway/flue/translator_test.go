package flue

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

var update = flag.Bool("update", false, "write the golden files")

const (
	submissionID = "01890a5d-ac96-774b-bcce-b302099a8057"
	childA       = "01890a5d-ac97-774b-bcce-b302099a0001"
	childB       = "01890a5d-ac98-774b-bcce-b302099a0002"
	childC       = "01890a5d-ac99-774b-bcce-b302099a0003"
)

var (
	noon   = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	apiOf  = APIOf(func(model.Ref) model.API { return model.APIAnthropic })
	opus   = model.Ref{Provider: "anthropic", ID: "claude-opus-4"}
	tokens = model.Usage{Input: 10, Output: 3, CacheRead: 2, Cost: model.Cost{Input: 0.5, Output: 0.25}}
)

// script is a submission's events in batches, each event a millisecond after the one before.
type script struct {
	batches [][]event.Event
	at      time.Time
	turn    int
}

func (s *script) add(events ...event.Event) {
	for i := range events {
		s.at = s.at.Add(time.Millisecond)
		events[i].Time, events[i].Turn = s.at, s.turn
		if events[i].Loop == nil {
			events[i].SubmissionID = submissionID
		}
		if events[i].Entry != nil {
			events[i].Entry.CreatedAt = s.at
		}
	}
	s.batches = append(s.batches, events)
}

// child is a sub-agent of a script.
type child struct {
	*event.Loop
	submission string
}

func newChild(task, parent, submission string) child {
	return child{&event.Loop{Task: task, Parent: parent, Session: "id of " + task, Root: submissionID}, submission}
}

// of makes events of a sub-agent's.
func (c child) of(events ...event.Event) []event.Event {
	for i := range events {
		events[i].Loop, events[i].SubmissionID = c.Loop, c.submission
	}
	return events
}

func (c child) start(agent, prompt string) []event.Event {
	return c.of(event.Event{
		Type: event.TaskStarted, Task: &event.Task{Agent: agent, Cwd: "/w", Model: "anthropic/claude-small"},
		Entry: &session.Entry{Kind: session.Input, Message: model.Message{
			Role: model.User, Content: []model.Block{said(prompt)},
		}},
	})
}

func (c child) finish(z event.Settlement) []event.Event {
	e := settled(z)
	e.Type, e.Task = event.TaskFinished, &event.Task{Duration: 9 * time.Millisecond}
	return c.of(e)
}

func begin() *script {
	s := &script{at: noon, turn: 1}
	s.add(event.Event{Type: event.Started, EntrySeq: 1})
	return s
}

func (s *script) frames() string {
	t := NewTranslator(submission.Submission{
		Loop: lane.Loop{ID: submissionID, Key: session.Key{Agent: "a", Instance: "i<1>/x", Name: "default"}},
	}, opus, apiOf)
	var out []byte
	for _, batch := range s.batches {
		for _, e := range t.Translate(batch) {
			out = AppendFrame(out, e)
		}
	}
	return string(out)
}

func text(s string) event.Event    { return event.Event{Type: event.Text, Text: s} }
func thought(s string) event.Event { return event.Event{Type: event.Thinking, Text: s} }

func entry(kind session.Kind, m model.Message) event.Event {
	return event.Event{Type: event.EntryAdded, Entry: &session.Entry{Kind: kind, Message: m}}
}

func steer(text string) event.Event {
	e := entry(session.Input, model.Message{Role: model.User, Content: []model.Block{said(text)}})
	e.Type, e.Joined = event.Steered, childA
	return e
}

func answer(stop model.Stop, blocks ...model.Block) event.Event {
	usage := tokens
	return entry(session.Assistant, model.Message{
		Role: model.Assistant, Content: blocks, Model: &opus, Usage: &usage,
		Stop: stop,
	})
}

func said(s string) model.Block { return model.Block{Type: model.TextBlock, Text: s} }
func mused(s string) model.Block {
	return model.Block{Type: model.ThinkingBlock, Text: s, Opaque: json.RawMessage(`{"signature":"secret"}`)}
}

func asks(id, tool, args string) model.Block {
	return model.Block{Type: model.ToolCallBlock, CallID: id, Tool: tool, Args: json.RawMessage(args)}
}

func result(b model.Block) event.Event {
	b.Type = model.ToolResultBlock
	return entry(session.ToolResult, model.Message{Role: model.ToolRole, Content: []model.Block{b}})
}

func toolEvent(kind event.Type, id, tool string) event.Event {
	return event.Event{Type: kind, Call: &event.Call{
		ID: "call-" + id, ProviderID: id, Tool: tool, State: "done",
		Duration: 7 * time.Millisecond,
	}}
}

func settled(z event.Settlement) event.Event {
	z.Model, z.Usage = opus.String(), tokens
	return event.Event{Type: event.Settled, Settlement: &z}
}

func completed(s string) event.Event { return settled(event.Settlement{Outcome: "completed", Text: s}) }

var scripts = map[string]func() *script{
	"plain": func() *script {
		s := begin()
		s.add(text("Hello <b>"))
		s.add(event.Event{Type: event.Text, Text: "world</b>", Pieces: []int{3, 2, 4}})
		s.add(answer(model.StopEnd, said("Hello <b>world</b>\n& more")), completed("Hello <b>world</b>\n& more"))
		return s
	},
	"no_deltas": func() *script {
		s := begin()
		s.add(answer(model.StopLength, mused("hm"), said("one"), mused("so"), said("two")), completed("one\ntwo"))
		return s
	},
	"thinking": func() *script {
		s := begin()
		s.add(thought("let "), thought("me see"))
		s.add(text("yes"))
		s.add(answer(model.StopEnd, mused("let me see"), said("yes, it is")), completed("yes, it is"))
		return s
	},
	"tools": func() *script {
		s := begin()
		s.add(text("look"))
		s.add(
			answer(model.StopTools, said("looking"), asks("t1", "bash", `{"command":"ls"}`),
				asks("t2", "read", `{"path":"x"}`), asks("t3", "read", `[1]`)),
			toolEvent(event.ToolStarted, "t1", "bash"), toolEvent(event.ToolStarted, "t2", "read"),
		)
		s.add(toolEvent(event.ToolStarted, "t1", "bash"))
		s.add(event.Event{
			Type: event.ToolOutput, Call: &event.Call{ID: "call-t1"},
			Output: &event.Output{Data: []byte("a\n")},
		})
		s.add(toolEvent(event.ToolFinished, "t2", "read"))
		s.add(
			toolEvent(event.ToolFinished, "t1", "bash"),
			result(model.Block{
				CallID: "t1", Tool: "bash", Text: "a\n",
				Details: json.RawMessage(`{"command":"ls","exitCode":0}`),
			}),
			result(model.Block{
				CallID: "t2", Tool: "read", Text: "an image",
				Image: &model.Image{MediaType: "image/png", Data: []byte{0, 255}},
			}),
			result(model.Block{CallID: "t3", Tool: "read", Text: "no such arguments", IsError: true}),
		)
		s.turn = 2
		s.add(answer(model.StopEnd, said("done")), completed("done"))
		return s
	},
	"sub_agents": func() *script {
		s := begin()
		a, b := newChild("call-t1", "", childA), newChild("call-t2", "", childB)
		c := newChild("call-t3", "call-t1", childC)
		s.add(
			answer(model.StopTools, asks("t1", "task", `{"prompt":"look"}`), asks("t2", "task", `{"prompt":"list"}`)),
			toolEvent(event.ToolStarted, "t1", "task"), toolEvent(event.ToolStarted, "t2", "task"),
		)
		s.add(append(a.start("helper", "look"), b.start("", "list")...)...)
		s.add(a.of(thought("hm"), answer(model.StopTools, mused("hm"), asks("t3", "task", `{"prompt":"deeper"}`)),
			toolEvent(event.ToolStarted, "t3", "task"))...)
		s.add(b.of(answer(model.StopEnd, said("a list")))...)
		s.add(append(c.start("helper", "deeper"), c.of(answer(model.StopEnd, said("deep")))...)...)
		s.add(c.finish(event.Settlement{Outcome: "completed", Text: "deep"})...)
		s.add(b.finish(event.Settlement{Outcome: "completed", Text: "a list"})...)
		s.add(a.of(toolEvent(event.ToolFinished, "t3", "task"), result(model.Block{
			CallID: "t3", Tool: "task", Text: "deep", Details: json.RawMessage(`{"taskId":"call-t3"}`),
		}))...)
		s.add(append(a.of(answer(model.StopEnd, said("seen"))),
			a.finish(event.Settlement{Outcome: "completed", Text: "seen"})...)...)
		s.add(
			toolEvent(event.ToolFinished, "t1", "task"), toolEvent(event.ToolFinished, "t2", "task"),
			result(model.Block{CallID: "t1", Tool: "task", Text: "seen"}),
			result(model.Block{CallID: "t2", Tool: "task", Text: "a list"}),
		)
		s.turn = 2
		s.add(answer(model.StopEnd, said("done")), completed("done"))
		return s
	},
	"sub_agent_failed": func() *script {
		s := begin()
		a := newChild("call-t1", "", childA)
		s.add(answer(model.StopTools, asks("t1", "task", `{"prompt":"look"}`)),
			toolEvent(event.ToolStarted, "t1", "task"))
		s.add(append(a.start("helper", "look"), a.of(text("I am"))...)...)
		s.add(a.of(event.Event{Type: event.Restarted, Reason: "owner_changed", Text: "another replica goes on"})...)
		s.add(a.finish(event.Settlement{Outcome: "failed", Reason: "LIMIT_TURNS", Message: "too many turns"})...)
		s.add(toolEvent(event.ToolFinished, "t1", "task"),
			result(model.Block{CallID: "t1", Tool: "task", Text: "too many turns", IsError: true}))
		s.turn = 2
		s.add(answer(model.StopEnd, said("well")), completed("well"))
		return s
	},
	"aborted_in_the_sub_agents": func() *script {
		s := begin()
		a, c := newChild("call-t1", "", childA), newChild("call-t3", "call-t1", childC)
		s.add(answer(model.StopTools, asks("t1", "task", `{"prompt":"look"}`)),
			toolEvent(event.ToolStarted, "t1", "task"))
		s.add(a.start("helper", "look")...)
		s.add(a.of(answer(model.StopTools, asks("t3", "task", `{"prompt":"deeper"}`)),
			toolEvent(event.ToolStarted, "t3", "task"))...)
		s.add(append(c.start("helper", "deeper"), c.of(text("I"))...)...)
		s.add(settled(event.Settlement{Outcome: "aborted", Reason: "ABORTED", Message: "the submission was aborted"}))
		return s
	},
	"sub_agent_whose_beginning_is_gone": func() *script {
		s := begin()
		c := newChild("call-t3", "call-t1", childC)
		s.add(answer(model.StopTools, asks("t1", "task", `{"prompt":"look"}`)),
			toolEvent(event.ToolStarted, "t1", "task"))
		s.add(c.of(answer(model.StopEnd, said("deep")))...)
		s.add(c.finish(event.Settlement{Outcome: "completed", Text: "deep"})...)
		s.add(result(model.Block{CallID: "t1", Tool: "task", Text: "deep"}))
		s.turn = 2
		s.add(answer(model.StopEnd, said("done")), completed("done"))
		return s
	},
	"model_waiting": func() *script {
		s := begin()
		s.add(event.Event{Type: event.ModelWaiting, Wait: &event.Wait{
			Reason: "RATE_LIMIT", Since: s.at, Until: s.at.Add(time.Minute), Message: "waiting for the rate limit",
		}})
		s.add(answer(model.StopEnd, said("Hello")), completed("Hello"))
		return s
	},
	"restarted": func() *script {
		s := begin()
		s.add(thought("wait"), text("Hel"))
		s.add(event.Event{Type: event.Restarted, Reason: "model_retry", Text: "429 overloaded"})
		s.add(text("Hello"))
		s.add(event.Event{Type: event.Restarted, Reason: "owner_changed", Text: "another replica goes on with the " +
			"submission"})
		s.add(answer(model.StopEnd, said("Hello")), completed("Hello"))
		return s
	},
	"model_failed": func() *script {
		s := begin()
		s.add(settled(event.Settlement{
			Outcome: "failed", Reason: "MODEL_FAILED",
			Message: "the provider refuses the key",
		}))
		return s
	},
	"aborted_in_the_answer": func() *script {
		s := begin()
		s.add(text("Hel"))
		s.add(settled(event.Settlement{Outcome: "aborted", Reason: "ABORTED"}))
		return s
	},
	"steered": func() *script {
		s := begin()
		s.add(answer(model.StopTools, asks("t1", "bash", `{"command":"date"}`)))
		s.add(toolEvent(event.ToolStarted, "t1", "bash"), toolEvent(event.ToolFinished, "t1", "bash"))
		s.add(result(model.Block{CallID: "t1", Tool: "bash", Text: "noon"}))
		s.turn = 2
		s.add(steer("first"), steer("second"), text("so"), answer(model.StopEnd, said("so")), steer("third"))
		s.turn = 3
		s.add(text("then"), answer(model.StopEnd, said("then")), completed("then"))
		return s
	},
	"aborted_in_the_tools": func() *script {
		s := begin()
		s.add(answer(model.StopTools, asks("t1", "bash", `{"command":"sleep 9"}`)),
			toolEvent(event.ToolStarted, "t1", "bash"))
		s.add(
			toolEvent(event.ToolFinished, "t1", "bash"), result(model.Block{
				CallID: "t1", Tool: "bash",
				Text: "cancelled", IsError: true,
			}),
			settled(event.Settlement{Outcome: "aborted", Reason: "ABORTED", Message: "the submission was aborted"}),
		)
		return s
	},
}

func TestGolden(t *testing.T) {
	for name, make := range scripts {
		t.Run(name, func(t *testing.T) {
			got, file := make().frames(), filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// known are the types that the original's client accepts on an agent's stream.
var known = strings.Fields("agent_start agent_end turn_start turn_request turn_end turn message_start message_end " +
	"text_delta thinking_start " +
	"thinking_delta thinking_end tool_start tool_call task_start task operation_start operation log idle")

// What the original's client checks of every event, and what the order promises, holds for every script. A reader is
// told the same however the events are cut: what comes in one batch, or in many, is a matter of chance.
func TestEveryStreamIsWellFormed(t *testing.T) {
	for name, make := range scripts {
		came := make()
		check(t, name, parse(t, came.frames()))
		all := slices.Concat(came.batches...)
		for n := 1; n <= len(all); n++ {
			cut := &script{batches: slices.Collect(slices.Chunk(all, n))}
			if got, want := cut.frames(), came.frames(); got != want {
				t.Errorf("%s, %d at a time:\n%s\nwant\n%s", name, n, got, want)
			}
		}
	}
}

type wire struct {
	Type, InstanceID, Timestamp, Session, Harness, OperationID, TurnID, Text, Delta string
	ParentSession, TaskID                                                           string
	EventIndex                                                                      *int
	RunID                                                                           *string
	// of a log line it is a string
	Message json.RawMessage
	IsError bool
}

type wireMessage struct {
	Role    string
	Content []struct{ Type, Text, Thinking string }
}

func parse(t *testing.T, frames string) []wire {
	t.Helper()
	var all []wire
	for block := range strings.SplitSeq(strings.TrimSuffix(frames, "\n\n"), "\n\n") {
		lines := strings.Split(block, "\n")
		if len(lines) != 3 {
			t.Fatalf("block %q", block)
		}
		var w wire
		if err := json.Unmarshal([]byte(strings.TrimPrefix(lines[2], "data: ")), &w); err != nil {
			t.Fatal(err)
		}
		if lines[0] != "event: "+w.Type {
			t.Errorf("%s is called %s", w.Type, lines[0])
		}
		all = append(all, w)
	}
	return all
}

// check looks at a whole stream, and then at each session's part of it.
func check(t *testing.T, name string, events []wire) {
	t.Helper()
	sessions := map[string][]wire{}
	for i, e := range events {
		if e.InstanceID != "i<1>/x" || e.RunID != nil || e.EventIndex == nil || *e.EventIndex != i ||
			e.Harness != "default" || e.Timestamp == "" || e.OperationID == "" {
			t.Errorf("%s: event %d: %+v", name, i, e)
		}
		about := e.Type == "task_start" || e.Type == "task"
		child := "task:" + e.ParentSession + ":" + e.TaskID
		switch {
		case about && (e.ParentSession != e.Session || e.TaskID == ""),
			!about && e.TaskID != "" && e.Session != child,
			!about && e.TaskID == "" && (e.Session != "default" || e.ParentSession != ""),
			e.Type == "task_start" && len(sessions[child]) > 0,
			!about && e.TaskID != "" && len(sessions[e.ParentSession]) == 0:
			t.Errorf("%s: event %d is in a session that it is not of: %+v", name, i, e)
		}
		sessions[e.Session] = append(sessions[e.Session], e)
	}
	if n := len(events); events[0].Session != "default" || events[n-1].Session != "default" {
		t.Errorf("%s: the stream begins or ends with a sub-agent", name)
	}
	for session, part := range sessions {
		checkSession(t, name+", "+session, part)
	}
}

func checkSession(t *testing.T, name string, events []wire) {
	t.Helper()
	depth := map[string]int{}
	var texts, thoughts string
	for i, e := range events {
		if !strings.Contains(" "+strings.Join(known, " ")+" ", " "+e.Type+" ") {
			t.Errorf("%s: unknown type %s", name, e.Type)
		}
		if kind, ok := strings.CutSuffix(e.Type, "_start"); ok {
			depth[kind]++
			if kind == "message" {
				texts, thoughts = "", ""
			}
		} else if kind, ok := strings.CutSuffix(e.Type, "_end"); ok {
			depth[kind]--
		}
		for kind, n := range depth {
			if kind != "tool" && kind != "task" && kind != "operation" && (n < 0 || n > 1) {
				t.Fatalf("%s: event %d: %d of %s are open", name, i, n, kind)
			}
		}
		switch e.Type {
		case "text_delta":
			texts += e.Text
		case "thinking_delta":
			thoughts += e.Delta
		case "message_end":
			var m wireMessage
			if err := json.Unmarshal(e.Message, &m); err != nil {
				t.Fatal(err)
			}
			var wantTexts, wantThoughts string
			for _, b := range m.Content {
				wantTexts, wantThoughts = wantTexts+b.Text, wantThoughts+b.Thinking
			}
			if m.Role == "assistant" && len(m.Content) > 0 && (texts != wantTexts || thoughts != wantThoughts) {
				t.Errorf("%s: deltas %q and %q, message %q and %q", name, texts, thoughts, wantTexts, wantThoughts)
			}
		}
	}
	for _, kind := range []string{"agent", "turn", "message", "thinking"} {
		if depth[kind] != 0 {
			t.Errorf("%s: %s is left open", name, kind)
		}
	}
	if n := len(events); events[0].Type != "operation_start" || events[n-1].Type != "idle" ||
		events[n-2].Type != "operation" {
		t.Errorf("%s: begins with %s, ends with %s, %s", name, events[0].Type, events[n-2].Type, events[n-1].Type)
	}
}

// A delta takes little more on the wire than the protocol demands, and those that wait for a reader that is behind
// share that.
func TestDeltasAreSmall(t *testing.T) {
	s := begin()
	word := strings.Repeat("x", 40)
	s.add(text(word))
	one := len(s.frames())
	s.add(text(word))
	if size := len(s.frames()) - one; size > 320 {
		t.Errorf("a delta alone takes %d bytes", size)
	}
	many := make([]event.Event, 2000) // 80 kB
	for i := range many {
		many[i] = text(word)
	}
	before := len(s.frames())
	s.add(many...)
	if size := (len(s.frames()) - before) / len(many); size > 50 {
		t.Errorf("a delta of a batch takes %d bytes", size)
	}
}

func TestULIDKeepsTheTime(t *testing.T) {
	if got, want := ulid("01890a5d-ac96-774b-bcce-b302099a8057", 0), "01H455VB4PEX5VSKNK084SN02Q"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if ulid(submissionID, 1) == ulid(submissionID, 2) || len(ulid("", 0)) != 26 {
		t.Error("ids are not told apart")
	}
}

func TestErrorFrame(t *testing.T) {
	e := NotCompleted(submission.Submission{
		Loop: lane.Loop{ID: "s"}, Outcome: lane.Failed, Reason: "LIMIT_TURNS",
		Message: "100 turns",
	})
	want := `event: error
id: 0
data: {"type":"error","instanceId":"i","error":{"type":"internal_error","message":"An internal error occurred.","details":"The server encountered an unexpected error while handling this request.","meta":{"message":"100 turns","outcome":"failed","reason":"LIMIT_TURNS","submissionId":"s"}}}

`
	if got := string(AppendFrame(nil, e.Frame("i"))); got != want {
		t.Errorf("got %s", got)
	}
}

func TestErrorFrameSaysWhatMayStillRun(t *testing.T) {
	e := NotCompleted(submission.Submission{
		Loop: lane.Loop{ID: "s"}, Outcome: lane.Aborted,
		Cancellation: &call.Cancellation{Unconfirmed: []call.Unconfirmed{{
			CallID: "c", Tool: "bash", Executor: "x", Reason: call.ExecutorAway, Message: "away",
		}}},
	})
	want := `"cancellation":{"confirmed":false,"unconfirmed":[{"callId":"c","executorId":"x","message":"away","reason":"EXECUTOR_AWAY","tool":"bash"}]}`
	if got := string(AppendFrame(nil, e.Frame("i"))); !strings.Contains(got, want) {
		t.Errorf("got %s", got)
	}
	e = NotCompleted(submission.Submission{
		Outcome: lane.Aborted, Cancellation: &call.Cancellation{More: 3},
	})
	if got := string(AppendFrame(nil, e.Frame("i"))); !strings.Contains(got,
		`"cancellation":{"confirmed":false,"more":3,"unconfirmed":[]}`) {
		t.Errorf("got %s", got)
	}
	e = NotCompleted(submission.Submission{
		Outcome:      lane.Aborted,
		Cancellation: &call.Cancellation{Confirmed: true},
	})
	if got := string(AppendFrame(nil, e.Frame("i"))); !strings.Contains(got,
		`"cancellation":{"confirmed":true,"unconfirmed":[]}`) {
		t.Errorf("got %s", got)
	}
}

func BenchmarkDeltas(b *testing.B) {
	t := NewTranslator(submission.Submission{
		Loop: lane.Loop{ID: submissionID, Key: session.Key{Instance: "i", Name: "default"}},
	}, opus, apiOf)
	batch := begin().batches[0]
	t.Translate(batch)
	const n = 1000
	pieces := make([]int, n)
	for i := range pieces {
		pieces[i] = 4
	}
	one := []event.Event{{Type: event.Text, Text: strings.Repeat("word", n), Pieces: pieces, Time: noon}}
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out = out[:0]
		for _, e := range t.Translate(one) {
			out = AppendFrame(out, e)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/delta")
}

// A provider's name says nothing of the protocol that it is configured with: the protocol that is used is named.
func TestTheProtocolIsTheOneThatIsUsed(t *testing.T) {
	for api, want := range map[model.API]string{
		model.APIAnthropic: `"api":"anthropic-messages",`, model.APIChat: `"api":"openai-completions",`,
		model.APIResponses: `"api":"openai-responses",`, model.APIOffline: `"api":"offline",`, "": "",
		model.APIGemini: `"api":"google-generative-ai",`, model.APIConverse: `"api":"bedrock-converse-stream",`,
	} {
		of := APIOf(func(model.Ref) model.API { return api })
		raw, err := json.Marshal(of.refOf(opus))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := string(raw), "{"+want+`"provider":"anthropic","model":"claude-opus-4"}`; got != want {
			t.Errorf("%q: %s, want %s", api, got, want)
		}
	}
}
