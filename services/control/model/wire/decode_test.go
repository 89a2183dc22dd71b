package wire_test

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/model/wire"
)

// offered are the tools of every request in these tests.
var offered = []model.Tool{{Name: "bash"}, {Name: "read"}, {Name: "ls"}}

// parts are what an answer comes to.
func parts(api model.API, src io.Reader) iter.Seq2[model.Part, error] {
	return func(yield func(model.Part, error) bool) {
		var r interface{ Next() (wire.Event, error) } = wire.NewReader(src)
		if api == model.APIConverse {
			r = wire.NewFrames(src)
		}
		d := wire.NewDecoder(api, offered)
		pass := func(parts []model.Part, err error) bool {
			for _, p := range parts {
				if !yield(p, nil) {
					return false
				}
			}
			if err != nil {
				yield(model.Part{}, err)
			}
			return err == nil
		}
		for !d.Ended() {
			e, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				yield(model.Part{}, err)
				return
			}
			if !pass(d.Event(e)) {
				return
			}
		}
		pass(d.End())
	}
}

// tell is an answer in one line.
func tell(t *testing.T, stream iter.Seq2[model.Part, error]) string {
	t.Helper()
	tr, err, broken := modeltest.Read(stream)
	if broken != nil {
		t.Fatalf("the stream breaks a rule: %v", broken)
	}
	var said []string
	for _, b := range tr.Message.Content {
		s := b.Text
		switch {
		case b.Type == model.ThinkingBlock:
			s = "thinks " + s
		case b.ArgsError != "":
			s = b.CallID + "=" + b.Tool + "! " + b.ArgsError
		case b.Type == model.ToolCallBlock:
			s = b.CallID + "=" + b.Tool + string(b.Args)
		}
		if b.Opaque != nil {
			s += " " + string(b.Opaque)
		}
		said = append(said, s)
	}
	if err != nil {
		if said = nil; tr.Text != "" {
			said = []string{tr.Text} // as far as it was told
		}
		return strings.Join(append(said, "error: "+err.Error()), " | ")
	}
	if u := *tr.Message.Usage; u != (model.Usage{}) {
		said = append(said, fmt.Sprintf("%d+%d", u.Input, u.Output))
		if u.CacheRead+u.CacheWrite > 0 {
			said = append(said, fmt.Sprintf("cached %d+%d", u.CacheRead, u.CacheWrite))
		}
	}
	return strings.Join(append(said, string(tr.Message.Stop)), " | ")
}

// check decodes an answer as it is, and in every other framing that means the same.
func check(t *testing.T, api model.API, src, want string) {
	t.Helper()
	framings := map[string]string{
		"as it is":          src,
		"CR LF":             strings.ReplaceAll(src, "\n", "\r\n"),
		"CR":                strings.ReplaceAll(src, "\n", "\r"),
		"a byte order mark": "\ufeff" + src,
		"no blanks behind colons": strings.ReplaceAll(
			strings.ReplaceAll(src, "data: ", "data:"), "event: ", "event:",
		),
		"comments and heartbeats": strings.ReplaceAll(
			src, "\n\n", "\n\n: ping\n\ndata: \n\ndata:\n\ndata\n\nid: 7\nretry: 10\n\n",
		),
		"no blank lines":            strings.ReplaceAll(src, "\n\n", "\n"),
		"no end of the last line":   strings.TrimRight(src, "\n"),
		"names apart from the data": strings.ReplaceAll(src, "\ndata:", "\n\ndata:"),
	}
	for name, framed := range framings {
		for _, reader := range []io.Reader{
			strings.NewReader(framed), iotest.OneByteReader(strings.NewReader(framed)),
			iotest.DataErrReader(strings.NewReader(framed)),
		} {
			if got := tell(t, parts(api, reader)); got != want {
				t.Errorf("%s, by %T:\ngot  %s\nwant %s", name, reader, got, want)
				return
			}
		}
	}
}

// answer is a test of what an answer comes to.
type answer struct{ name, src, want string }

func checkAll(t *testing.T, api model.API, tests []answer) {
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { check(t, api, tt.src, tt.want) })
	}
}

func TestArguments(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{`{\"a\":1}`, `x=bash{"a":1}`},
		{` \n{\"a\":1}\n `, `x=bash{"a":1}`},
		{``, `x=bash{}`},
		{`null`, `x=bash{}`},
		{`[]`, `x=bash{}`},
		{`\"{\\\"a\\\":1}\"`, `x=bash{"a":1}`},                      // encoded twice
		{`{\"a\":1}{\"a\":2}`, `x=bash{"a":1} | x_2=bash{"a":2}`},   // two calls in one slot
		{`{\"a\":1}\n{\"a\":2}`, `x=bash{"a":1} | x_2=bash{"a":2}`}, //
		{`{\"a\":1}{\"a\":1}`, `x=bash{"a":1}`},                     // the whole again
		{`{}{\"a\":1}`, `x=bash{"a":1}`},                            // a placeholder
		{`[1]`, `x=bash[1]`},                                        // the tool says what it thinks of that
		{`\"ls -l\"`, `x=bash"ls -l"`},                              //
		{`{\"a\":1}}`, "x=bash! Your arguments are no JSON: at byte 8, invalid character '}' after top-level value"},
		{`{'a':1}`, "x=bash! Your arguments are no JSON: at byte 2, invalid character '\\''"},
		{
			`{\"a\":1}{\"a\":`,
			"x=bash! Your arguments are no JSON: at byte 8, invalid character '{' after top-level value",
		},
		{`{\"a\":\"x`, "x=bash! Your JSON was cut at byte 7."},
		{`ls -l`, "x=bash! Your arguments are no JSON: at byte 1, invalid character 'l'"},
	} {
		src := chunk(`{"tool_calls":[{"index":0,"id":"x","function":{"name":"bash","arguments":"`+tt.text+`"}}]}`) +
			done
		got := tell(t, parts(model.APIChat, strings.NewReader(src)))
		want := tt.want
		if !strings.Contains(want, "! ") { // whose message goes on
			want += " | tool_use"
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s\ngot  %s\nwant %s", tt.text, got, want)
		}
	}
}

// An event of two lines follows another one without a blank line between them.
func TestAnEventOfSeveralLinesWithoutABlankLineBeforeIt(t *testing.T) {
	src := `data: {"choices":[{"delta":{"content":"a"}}]}` + "\n" +
		`data: {"choices":` + "\n" + `data: [{"delta":{"content":"b"}}]}` + "\n\n" + done
	for _, end := range []string{"\n", "\r", "\r\n"} {
		text := strings.ReplaceAll(src, "\n", end)
		for _, r := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text))} {
			if got := tell(t, parts(model.APIChat, r)); got != "ab | stop" {
				t.Errorf("lines that end with %q, by %T: %s", end, r, got)
			}
		}
	}
}

// The time that an answer takes grows with its calls and not with their square, which would take a minute here.
func TestAnAnswerOfManyCalls(t *testing.T) {
	const most = 60_000
	for api, src := range map[model.API]func(i int) string{
		model.APIChat: func(i int) string {
			return chunk(fmt.Sprintf(`{"tool_calls":[{"id":"%d","function":{"name":"bash","arguments":"{}"}}]}`, i))
		},
		model.APIAnthropic: func(i int) string {
			block := fmt.Sprintf(`"index":%d,"content_block":{"type":"tool_use","id":"one","name":"bash","input":{}}`,
				i)
			return event("content_block_start", block) + event("content_block_stop", fmt.Sprintf(`"index":%d`, i))
		},
		model.APIResponses: func(i int) string {
			item := fmt.Sprintf(
				`"output_index":%d,"item":{"id":"%d","type":"function_call","call_id":"%d","name":"bash"}`, i, i, i,
			)
			return event("response.output_item.done", item)
		},
	} {
		var all strings.Builder
		for i := range most {
			all.WriteString(src(i))
		}
		all.WriteString(map[model.API]string{
			model.APIChat: done, model.APIAnthropic: event("message_stop", ""),
			model.APIResponses: event("response.completed", `"response":{"status":"completed"}`),
		}[api])
		start, seen := time.Now(), map[string]bool{}
		for p, err := range parts(api, strings.NewReader(all.String())) {
			if err != nil {
				t.Fatal(err)
			}
			if time.Since(start) > 15*time.Second {
				t.Fatalf("%s: %d calls in %s", api, len(seen), time.Since(start))
			}
			if p.Type == model.PartBlock {
				seen[p.Block.CallID] = true
			}
		}
		if len(seen) != most {
			t.Errorf("%s: %d calls", api, len(seen))
		}
	}
}

func TestWhatIsNoStream(t *testing.T) {
	long := strings.Repeat("x", 17<<20)
	for src, want := range map[string]string{
		"data: {nope\n\n":        `error: an event of the provider's stream is no JSON object: "{nope"`,
		"data: 17\n\n":           `error: an event of the provider's stream is no JSON object: "17"`,
		"<html>\n<p>hi</p>\n":    "error: the stream ended before its end",
		long + "\n":              `error: the answer is not a stream of events: "xxx`,
		"data: {\"a\":\"" + long: `error: a line of the stream is longer than 16 MiB: "data: {\"a\":\"xxx`,
		strings.Repeat(
			"data: "+strings.Repeat("x", 1<<20)+"\n", 20,
		): `error: an event of the stream is longer than 16 MiB: "xxx`,
	} {
		for _, api := range apis[:4] { // AWS frames its events
			got := tell(t, parts(api, strings.NewReader(src)))
			if !strings.HasPrefix(got, want) || len(got) > 500 {
				t.Errorf("%s: %.50q…\ngot  %.500s\nwant %s", api, src, got, want)
			}
		}
	}
}
