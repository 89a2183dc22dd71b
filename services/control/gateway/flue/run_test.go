package flue

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// The name of a run says which it is, and nothing but such a name does.
func FuzzRunID(f *testing.F) {
	for _, s := range []string{
		"workflow:echo:01KBADC0DE0000000000000000", "workflow::01KBADC0DE0000000000000000",
		"workflow:echo:81KBADC0DE0000000000000000", "workflow:echo:01kbadc0de0000000000000000",
		"workflow:a:b:01KBADC0DE0000000000000000", "workflow:echo:", "workflow:", "",
		"workflow:é:7ZZZZZZZZZZZZZZZZZZZZZZZZZ",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		workflow, id, ok := ParseRunID(text)
		if ok && RunID(workflow, id) != text {
			t.Errorf("%q was made of %q and %q", text, workflow, id)
		}
	})
}

func TestRunIDs(t *testing.T) {
	for range 1000 {
		id := uuid.Must(uuid.NewV7()).String()
		workflow, got, ok := ParseRunID(RunID("w", id))
		if !ok || got != id || workflow != "w" {
			t.Fatalf("%s gave %q, %q, %v", id, workflow, got, ok)
		}
	}
	// The bits that no UUID has, and letters in which ULIDs are not written.
	for _, text := range []string{
		"workflow:w:80000000000000000000000000", "workflow:w:0000000000000000000000000I",
		"workflow:w:0000000000000000000000000a", "workflow:w:0000000000000000000000000",
		"workflow::00000000000000000000000000", "workflow:w:00000000000000000000000\xff00",
		"workflow:w:000000000000000000000000\r\n",
	} {
		if _, _, ok := ParseRunID(text); ok {
			t.Error(text)
		}
	}
}

// Whatever a query holds, it is read or it is an error with issues that say what is wrong.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{
		"", "wait=result", "wait=a&wait=b", "after=1&types=log,idle&limit=10", "limit=0", "limit=%zz", "&&=&=x",
		"status=active",
		"cursor=eyJzIjoiMjAyNi0xMS0zMFQwMDowMDowMFoiLCJyIjoieCJ9", "limit=" + strings.Repeat("9", 400), "a+b=c%20d",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, wait := ParseWait(text)
		events, wrongEvents := ParseEventsQuery(text)
		runs, wrongRuns := ParseRunsQuery(text)
		for _, wrong := range []*Error{wait, wrongEvents, wrongRuns} {
			if wrong == nil {
				continue
			}
			var body struct {
				Error struct {
					Type string
					Meta struct{ Issues []struct{ Message string } }
				}
			}
			b, err := json.Marshal(wrong.Envelope())
			if err == nil {
				err = json.Unmarshal(b, &body)
			}
			if err != nil || body.Error.Type != "validation_failed" || len(body.Error.Meta.Issues) == 0 ||
				body.Error.Meta.Issues[0].Message == "" {
				t.Errorf("%q: %v, %s", text, err, b)
			}
		}
		if wrongEvents == nil && (events.Limit < 1 || events.Limit > maxPage || events.After < -1) ||
			wrongRuns == nil && (runs.Limit < 1 || runs.Limit > maxPage) {
			t.Errorf("%q gave %+v and %+v", text, events, runs)
		}
	})
}

// What is said on the socket of a workflow is an invocation with a request id and a payload, or an error.
func FuzzInvocation(f *testing.F) {
	for _, s := range []string{
		`{"version":1,"type":"invoke","requestId":"r"}`, `{"version":1,"type":"invoke","requestId":"r","payload":null}`,
		`{"version":1,"type":"ping","requestId":"r"}`, `[]`, `null`, ``, "\xff", `{"requestId":"\ud800"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		in, wrong := ParseInvocation(text)
		if wrong == nil && (in.RequestID == nil || strings.TrimSpace(*in.RequestID) == "" || !json.Valid(in.Payload)) {
			t.Errorf("%q gave %+v", text, in)
		}
		if !json.Valid(RunSocket{"r", "run"}.Result(in.Payload)) {
			t.Errorf("%q makes a frame that is no JSON", text)
		}
	})
}

func TestLastEventID(t *testing.T) {
	for text, want := range map[string]int{
		"": -1, "0": 0, "007": 7, "9007199254740991": 1<<53 - 1, "9007199254740992": -1, "1e3": -1, "+1": -1, " 1": -1,
		"99999999999999999999": -1,
	} {
		if got := ParseLastEventID(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	if q, wrong := ParseEventsQuery("after=99999999999999999999"); wrong != nil || q.After != math.MaxInt {
		t.Errorf("%+v, %v", q, wrong)
	}
}

var aRun = Run{ID: "01a22c80-bc6c-732f-baaf-0dbdfe9e28c6", Workflow: "w", Status: Completed, StartedAt: time.Unix(0, 0)}

// An event is one line of JSON with its index, whatever its own fields are.
func FuzzRunEvent(f *testing.F) {
	for _, s := range []string{
		"", "{}", "{ }", "{\n\"a\" :\r1}", "null", "[]", "{", `{"message":"<&>\u2028"}`, "\"\xff\"",
	} {
		f.Add("log", []byte(s))
	}
	f.Fuzz(func(t *testing.T, kind string, fields []byte) {
		e := aRun.Event(RunEvent{Index: 7, Type: kind, Time: time.Unix(0, 0), Fields: fields})
		if !json.Valid(e.JSON) || bytes.ContainsAny(e.JSON, "\r\n") ||
			!bytes.Contains(e.JSON, []byte(`"eventIndex":7,`)) {
			t.Errorf("%q gave %s", fields, e.JSON)
		}
	})
}

// An event that is too large loses its longest fields, and no others.
func TestLargeEventsAreCut(t *testing.T) {
	long := strings.Repeat("ü", MaxEvent/4)
	fields, err := json.Marshal(map[string]any{
		"message": long, "more": long + long, "attributes": []string{long}, "level": "info",
	})
	if err != nil {
		t.Fatal(err)
	}
	e := aRun.Event(RunEvent{Type: LogType, Fields: fields})
	var got struct {
		Level, Message, More string
		Attributes           []string
		Truncated            []string
	}
	if err := json.Unmarshal(e.JSON, &got); err != nil {
		t.Fatal(err)
	}
	if len(e.JSON) > MaxEvent || got.Level != "info" || len(got.More) != cutText || !utf8.ValidString(got.More) ||
		got.Attributes != nil || got.Message != long || strings.Join(got.Truncated, " ") != "attributes more" {
		t.Errorf("%d bytes, %d, %d, %v", len(e.JSON), len(got.More), len(got.Message), got.Truncated)
	}
	short := raw(map[string]string{"message": strings.Repeat("x", MaxEvent-200)})
	fits := aRun.Event(RunEvent{Type: LogType, Fields: short})
	if bytes.Contains(fits.JSON, []byte("truncated")) {
		t.Error("an event that fits was cut")
	}
}

// A cursor that cannot be read is none.
func TestCursors(t *testing.T) {
	at := time.Date(2026, 11, 30, 12, 0, 0, 123456789, time.UTC)
	if c := parseCursor(Cursor{at, "x"}.encode()); c == nil || !c.StartedAt.Equal(at) || c.ID != "x" {
		t.Errorf("%+v", c)
	}
	for _, text := range []string{"", "nonsense", "e30", "eyJzIjoieCIsInIiOiJ4In0", "*"} {
		if c := parseCursor(text); c != nil {
			t.Errorf("%q: %+v", text, c)
		}
	}
}
