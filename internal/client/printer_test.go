package client

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

// story is events in order, each 10 ms after the one before.
type story struct {
	t   *testing.T
	seq int64
	at  time.Time
	all []*pawlv1.Event
}

func tell(t *testing.T) *story {
	return &story{t: t, at: time.Date(2026, 2, 3, 4, 5, 6, 0, time.Local)}
}

func (s *story) add(e *pawlv1.Event) *story {
	s.seq++
	s.at = s.at.Add(10 * time.Millisecond)
	e.Seq, e.Time = s.seq, timestamppb.New(s.at)
	s.all = append(s.all, e)
	return s
}

func (s *story) later(d time.Duration) *story { s.at = s.at.Add(d); return s }

func (s *story) text(text string) *story {
	return s.add(&pawlv1.Event{Event: &pawlv1.Event_Text{Text: &pawlv1.TextDelta{Text: text}}})
}

func (s *story) restarted() *story {
	return s.add(&pawlv1.Event{Event: &pawlv1.Event_Restarted{Restarted: &pawlv1.ResponseRestarted{Message: "why"}}})
}

// answer is an entry of a text and calls, each id name and arguments.
func (s *story) answer(text string, calls ...[3]string) *story {
	m := &pawlv1.Message{}
	if text != "" {
		m.Content = append(m.Content, &pawlv1.Block{Block: &pawlv1.Block_Text{Text: text}})
	}
	for _, c := range calls {
		args := &structpb.Struct{}
		if err := args.UnmarshalJSON([]byte(c[2])); err != nil {
			s.t.Fatal(err)
		}
		m.Content = append(
			m.Content,
			&pawlv1.Block{Block: &pawlv1.Block_ToolCall{ToolCall: &pawlv1.ToolCall{Id: c[0], Name: c[1], Args: args}}},
		)
	}
	return s.add(
		&pawlv1.Event{
			Event: &pawlv1.Event_Entry{
				Entry: &pawlv1.EntryAppended{Entry: &pawlv1.Entry{Kind: "assistant", Message: m}},
			},
		},
	)
}

func (s *story) started(id, providerID, name, executor string) *story {
	return s.add(&pawlv1.Event{Event: &pawlv1.Event_ToolStarted{ToolStarted: &pawlv1.ToolStarted{
		CallId: id, ToolCallId: providerID, Name: name, ExecutorId: executor,
	}}})
}

func (s *story) output(id, data string) *story {
	return s.add(
		&pawlv1.Event{Event: &pawlv1.Event_ToolOutput{ToolOutput: &pawlv1.ToolOutput{CallId: id, Data: []byte(data)}}},
	)
}

func (s *story) finished(id, name string, isError bool, took time.Duration) *story {
	return s.add(&pawlv1.Event{Event: &pawlv1.Event_ToolFinished{ToolFinished: &pawlv1.ToolFinished{
		CallId: id, Name: name, State: "done", IsError: isError, Duration: durationpb.New(took),
	}}})
}

func (s *story) settled(text string) *story {
	return s.add(
		&pawlv1.Event{Event: &pawlv1.Event_Settled{Settled: &pawlv1.SubmissionSettled{Submission: &pawlv1.Submission{
			Status:  pawlv1.Submission_STATUS_SETTLED,
			Outcome: pawlv1.Outcome_OUTCOME_COMPLETED,
			Result:  &pawlv1.PromptResult{Text: text},
		}}}},
	)
}

// printed is what a printer writes of the story. at is whether both are one terminal of 80 columns.
func (s *story) printed(at bool, with func(*printer)) (out, err string) {
	var o, e bytes.Buffer
	p := newPrinter(&o, &e)
	if at {
		p.answers, p.notes = terminal{is: true, width: 80}, terminal{is: true, width: 80}
	}
	if with != nil {
		with(p)
	}
	for range 2 { // as after a connection was lost: what was seen counts once
		for _, ev := range s.all {
			p.event(ev)
		}
	}
	p.end()
	return o.String(), e.String()
}

// An answer is written once, however often it is begun, and however it comes.
func TestAnAnswerIsWrittenOnce(t *testing.T) {
	begun := tell(t).text("Hel").text("lo").restarted().text("Hello, ").answer("Hello, world").settled("Hello, world")
	if out, _ := begun.printed(false, nil); out != "Hello, world\n" {
		t.Errorf("elsewhere: %q", out)
	}
	out, notes := begun.printed(true, nil)
	if out != "Hello\nHello, world\n" || notes != "[the answer begins anew: why]\n" {
		t.Errorf("on a terminal: %q, %q", out, notes)
	}
	work := tell(
		t,
	).answer("I look.", [3]string{"p", "read", `{"path":"x"}`}).
		started("c", "p", "read", "m").
		finished("c", "read", false, 0).
		text("Done").
		answer("Done").
		settled("Done")
	if out, notes := work.printed(false, nil); out != "Done\n" || notes != "I look.\n[read on m] x\n" {
		t.Errorf("with calls, elsewhere: %q, %q", out, notes)
	}
	if out, _ := work.printed(true, nil); out != "I look.\nDone\n" {
		t.Errorf("with calls, on a terminal: %q", out)
	}
	if out, _ := work.printed(false, func(p *printer) { p.mute = true }); out != "" {
		t.Errorf("with -o json: %q", out)
	}
}

// What a model or a command says does not act on the terminal; elsewhere the answer is as it is.
func TestAnswersAreHarmless(t *testing.T) {
	s := tell(t).text("\x1b]0;x\a").answer("\x1b]0;x\a", [3]string{"p", "bash", `{"command":"echo \u001b[2J"}`}).
		started("c", "p", "bash", "m").output("c", "\x1b[31mred\n").finished("c", "bash", true, 0).settled("\x1b]0;x\a")
	out, notes := s.printed(true, nil)
	if strings.Contains(out+notes, "\x1b") || !strings.Contains(notes, `[bash on m] echo \x1b[2J`) ||
		!strings.Contains(notes, `  | \x1b[31mred`) {
		t.Errorf("%q, %q", out, notes)
	}
	if out, _ := s.printed(false, nil); out != "\x1b]0;x\a\n" {
		t.Errorf("%q", out)
	}
}

// Each call has its command or path, also when two have one id.
func TestCallsHaveTitles(t *testing.T) {
	long := strings.Repeat("x", 100)
	_, notes := tell(
		t,
	).answer("", [3]string{"p", "bash", `{"command":"first\nsecond\nthird"}`},
		[3]string{"p", "bash", `{"command":"` + long + `"}`},
		[3]string{
			"q",
			"grep",
			`{"pattern":"a.b","path":"src"}`,
		}, [3]string{"r", "write", `{"path":"f","content":"c"}`}).
		started("1", "p", "bash", "m").
		started("2", "p", "bash", "m").
		started("3", "q", "grep", "m").
		started("4", "r", "write", "m").
		started("5", "unknown", "bash", "m").
		printed(true, nil)
	lines := strings.Split(strings.TrimSpace(notes), "\n")
	want := []string{"[bash on m] first … +2 lines", "", "[grep on m] a.b in src", "[write on m] f", "[bash on m]"}
	if len(lines) != len(want) {
		t.Fatalf("%q", lines)
	}
	for i, w := range want {
		if w != "" && lines[i] != w {
			t.Errorf("%q, want %q", lines[i], w)
		}
	}
	if got := []rune(lines[1]); len(got) > 80 || !strings.HasSuffix(lines[1], "xx …") {
		t.Errorf("%q", lines[1])
	}
}

// Long output is folded: nothing of a quick call that went well, the beginning of a slow one, the end too of one
// that failed.
func TestOutputIsFolded(t *testing.T) {
	var many strings.Builder
	for i := range 30 {
		fmt.Fprintf(&many, "line %d\n", i+1)
	}
	head, tail := "  | line 1\n", "  | line 30\n"
	for name, c := range map[string]struct {
		s       *story
		verbose bool
		has     []string
		lacks   []string
	}{
		"quick": {
			tell(t).started("c", "", "bash", "m").output("c", many.String()).finished("c", "bash", false, 0), false,
			[]string{"[bash on m]\n"},
			[]string{head, "more lines", "is done"},
		},
		"slow": {
			tell(t).started("c", "", "bash", "m").later(2*time.Second).output("c", many.String()).
				finished("c", "bash", false, 2*time.Second), false,
			[]string{head, "  | line 10\n  … 20 more lines; --verbose shows all\n", "[bash is done after 2s]\n"},
			[]string{"line 11\n", tail},
		},
		"slow, and quiet at the end": {
			tell(t).started("c", "", "bash", "m").output("c", "one\ntw").output("c", "o").
				finished("c", "bash", false, 2*time.Second), false,
			[]string{"  | one\n  | two\n"},
			nil,
		},
		"failed": {
			tell(t).started("c", "", "bash", "m").output("c", many.String()).finished("c", "bash", true, 0), false,
			[]string{head, "  | line 10\n  … 15 more lines\n  | line 26\n", tail, "[bash failed after 0s]\n"},
			[]string{"line 11\n"},
		},
		"verbose": {
			tell(t).started("c", "", "bash", "m").output("c", many.String()).finished("c", "bash", false, 0), true,
			[]string{head, "line 11\n", tail},
			[]string{"more lines"},
		},
		"redrawn": {
			tell(t).started("c", "", "bash", "m").output("c", "10%\r20%\r100%\r\n").
				finished("c", "bash", true, 0), false,
			[]string{"  | 100%\n"},
			[]string{"20%"},
		},
	} {
		_, notes := c.s.printed(true, func(p *printer) { p.verbose = c.verbose })
		for _, part := range c.has {
			if !strings.Contains(notes, part) {
				t.Errorf("%s lacks %q:\n%s", name, part, notes)
			}
		}
		for _, part := range c.lacks {
			if strings.Contains(notes, part) {
				t.Errorf("%s has %q:\n%s", name, part, notes)
			}
		}
	}
}

// A wait says for what, since when, until when and what to do, and when it is over.
func TestWaitsAreTold(t *testing.T) {
	s := tell(t).answer("", [3]string{"p", "bash", `{"command":"make"}`}).started("c", "p", "bash", "m")
	s.add(&pawlv1.Event{Event: &pawlv1.Event_ToolWaiting{ToolWaiting: &pawlv1.ToolWaiting{
		CallId:     "c",
		ToolCallId: "p",
		Name:       "bash",
		Reason:     "EXECUTOR_AWAY",
		ExecutorId: "m",
		Message:    "executor m is not connected: start it again",
		Since:      timestamppb.New(s.at),
		Until:      timestamppb.New(s.at.Add(2 * time.Minute)),
	}}})
	_, notes := s.output("c", "").printed(true, nil)
	want := "[bash on m] make\n[bash waits] make\n" +
		"  executor m is not connected: start it again; waits since 04:05:06, until\n   04:07:06\n[bash runs on] make\n"
	if notes != want {
		t.Errorf("got\n%s\nwant\n%s", notes, want)
	}
}

// A wait for the model is told once, however often it is repeated.
func TestWaitsForTheModelAreTold(t *testing.T) {
	s := tell(t)
	wait := func() *story {
		return s.add(&pawlv1.Event{Event: &pawlv1.Event_ModelWaiting{ModelWaiting: &pawlv1.ModelWaiting{
			Reason:  "RATE_LIMIT",
			Message: "slow down\x1b",
			Since:   timestamppb.New(tell(t).at),
			Until:   timestamppb.New(tell(t).at.Add(time.Minute)),
		}}})
	}
	wait()
	wait().text("x")
	wait()
	_, notes := s.printed(false, nil)
	if want := "[the model is waited for] slow down\\x1b; since 04:05:06, until 04:06:06\n"; notes != want+want {
		t.Errorf("%q", notes)
	}
}

// Before the model is asked its tools may have to be waited for: a server may have to be downloaded.
func TestWaitsForToolsAreTold(t *testing.T) {
	s := tell(t)
	_, notes := s.add(&pawlv1.Event{Event: &pawlv1.Event_ModelWaiting{ModelWaiting: &pawlv1.ModelWaiting{
		Reason: "TOOLS", Message: "waiting for MCP server files", Since: timestamppb.New(s.at),
	}}}).printed(false, nil)
	if want := "[the model is not asked yet] waiting for MCP server files; since 04:05:06\n"; notes != want {
		t.Errorf("%q", notes)
	}
}

// The event that settles what never ran has no seq, and is told all the same.
func TestASettlementWithoutASeq(t *testing.T) {
	p := newPrinter(&bytes.Buffer{}, &bytes.Buffer{})
	p.event(
		&pawlv1.Event{Event: &pawlv1.Event_Settled{Settled: &pawlv1.SubmissionSettled{Submission: &pawlv1.Submission{
			Status:  pawlv1.Submission_STATUS_SETTLED,
			Outcome: pawlv1.Outcome_OUTCOME_ABORTED,
			Error:   &pawlv1.Error{Reason: "ABORTED", Message: "asked for"},
		}}}},
	)
	if p.failure == nil || p.failure.Error() != "ABORTED: asked for" {
		t.Errorf("%v", p.failure)
	}
}

func TestFit(t *testing.T) {
	if got := fit("a table\nthat is wide\n", 8); got != "a table\nthat is…\n" {
		t.Errorf("%q", got)
	}
	if got := fit("anything\n", 0); got != "anything\n" {
		t.Errorf("%q", got)
	}
}

func TestWrap(t *testing.T) {
	if got := wrap("  one two three four", 12); got != "  one two\n   three\n   four" {
		t.Errorf("%q", got)
	}
	if got := wrap("overlong-word and", 5); got != "overlong-word\n and" {
		t.Errorf("%q", got)
	}
}

// A line that is longer than what is kept of one is shown in pieces, and whole.
func TestVerboseShowsLongLinesWhole(t *testing.T) {
	var err bytes.Buffer
	p := newPrinter(&bytes.Buffer{}, &err)
	p.verbose = true
	long := strings.Repeat("äöü€", maxLine)
	for data := []byte(long + "\nend\n"); len(data) > 0; {
		n := min(len(data), 5000)
		p.output(&pawlv1.ToolOutput{CallId: "c", Data: data[:n]}, time.Now())
		data = data[n:]
	}
	var shown strings.Builder
	for line := range strings.Lines(err.String()) {
		piece := strings.TrimSuffix(strings.TrimPrefix(line, "  | "), "\n")
		if len(piece) > maxLine {
			t.Errorf("a line of %d bytes", len(piece))
		}
		shown.WriteString(piece)
	}
	if shown.String() != long+"end" {
		t.Errorf("%d of %d bytes are shown", shown.Len(), len(long)+3)
	}
}

// Of sub-agents is told who works at what, and nothing of what they say is taken for the answer.
func TestSubAgentsAreTold(t *testing.T) {
	a, b := &pawlv1.Task{TaskId: "a"}, &pawlv1.Task{TaskId: "b", ParentTaskId: "a"}
	s := tell(t)
	add := func(of *pawlv1.Task, e *pawlv1.Event) { e.Task = of; s.add(e) }
	say := func(kind, text string) *pawlv1.Entry {
		return &pawlv1.Entry{Kind: kind, Message: &pawlv1.Message{Content: []*pawlv1.Block{{
			Block: &pawlv1.Block_Text{Text: text},
		}}}}
	}
	add(a, &pawlv1.Event{Event: &pawlv1.Event_TaskStarted{TaskStarted: &pawlv1.TaskStarted{
		Agent: "helper", Entry: say("input", "look\nclosely"),
	}}})
	add(b, &pawlv1.Event{Event: &pawlv1.Event_TaskStarted{TaskStarted: &pawlv1.TaskStarted{
		Agent: "reader", Description: "read it all", Entry: say("input", "x"),
	}}})
	add(b, &pawlv1.Event{Event: &pawlv1.Event_ToolStarted{ToolStarted: &pawlv1.ToolStarted{Name: "bash"}}})
	add(b, &pawlv1.Event{Event: &pawlv1.Event_TaskFinished{TaskFinished: &pawlv1.TaskFinished{
		Outcome: pawlv1.Outcome_OUTCOME_FAILED, Error: &pawlv1.Error{Message: "no such file"},
		Duration: durationpb.New(time.Second),
	}}})
	add(a, &pawlv1.Event{Event: &pawlv1.Event_Entry{Entry: &pawlv1.EntryAppended{Entry: say("assistant", "hidden")}}})
	add(a, &pawlv1.Event{Event: &pawlv1.Event_TaskFinished{TaskFinished: &pawlv1.TaskFinished{
		Outcome: pawlv1.Outcome_OUTCOME_COMPLETED,
	}}})
	s.answer("Done").settled("Done")
	want := `[task helper] look … +1 line
[task helper/reader] read it all
[task helper/reader] bash
[task helper/reader: failed after 1s: no such file]
[task helper: completed]
`
	if out, notes := s.printed(false, nil); out != "Done\n" || notes != want {
		t.Errorf("%q, %s", out, notes)
	}
}

// A call that waits is told with what it does, and with commands to copy.
func TestPrinterTellsWhatWaits(t *testing.T) {
	for args, want := range map[string]string{
		`{"command":"rm x","cwd":"","timeout":0}`: "[bash waits for an approval] rm x\n",
		`{"command":"rm x`:                        "[bash waits for an approval] {\"command\":\"rm x\n",
	} {
		var out, notes bytes.Buffer
		p := newPrinter(&out, &notes)
		p.approval(&pawlv1.Event{Event: &pawlv1.Event_ApprovalRequested{ApprovalRequested: &pawlv1.ApprovalRequested{
			ApprovalId: "a1", Name: "bash", To: "role:approver", Arguments: args,
		}}})
		want += "  `control approvals approve a1`, or show, or deny\n  role:approver may decide\n"
		if notes.String() != want {
			t.Errorf("got %q, want %q", notes.String(), want)
		}
	}
}
