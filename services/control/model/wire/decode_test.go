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
		r, d := wire.NewReader(src), wire.NewDecoder(api, offered)
		defer r.Release()
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

func chunk(delta string) string {
	return `data: {"choices":[{"index":0,"delta":` + delta + `,"finish_reason":null}]}` + "\n\n"
}

func ended(reason string) string {
	return `data: {"choices":[{"index":0,"delta":{},"finish_reason":"` + reason + `"}]}` + "\n\n"
}

const done = "data: [DONE]\n\n"

func TestChat(t *testing.T) {
	call := func(piece string) string { return chunk(`{"tool_calls":[` + piece + `]}`) }
	checkAll(t, model.APIChat, []answer{
		{
			"plain",
			chunk(`{"role":"assistant","content":"hel"}`) + chunk(`{"content":"lo"}`) + ended("stop") + done,
			"hello | stop",
		},
		{"no done", chunk(`{"content":"hello"}`) + ended("stop"), "hello | stop"},
		{"no finish reason", chunk(`{"content":"hello"}`) + done, "hello | stop"},
		{"neither", chunk(`{"content":"hello"}`), "hello | error: the stream ended before its end"},
		{
			"cut in an event after the reason",
			chunk(`{"content":"hello"}`) + ended("stop") + `data: {"choices":[],"usa`,
			"hello | stop",
		},
		{
			"cut in an event before the reason",
			chunk(`{"content":"hello"}`) + `data: {"choices":[{"delta":{"con`,
			"hello | error: the stream ended before its end",
		},
		{"cut in the only event", `{"choices":[{"mess`, "error: the stream ended before its end"},
		{"nothing but done", done, "error: the provider's stream ended without an answer"},
		{
			"an empty reason",
			`data: {"choices":[{"delta":{"content":"a"},"finish_reason":""}]}` + "\n\n" + chunk(`{"content":"b"}`) +
				ended("stop"),
			"ab | stop",
		},
		{
			"no index, no delta",
			`data: {"choices":[{"delta":{"content":"a"}}]}` + "\n\n" +
				`data: {"choices":[{"finish_reason":"stop"}]}` + "\n\n" + done,
			"a | stop",
		},
		{
			"a delta of null",
			`data: {"choices":[{"index":0,"delta":null,"finish_reason":null}]}` + "\n\n" +
				chunk(`{"content":"a"}`) + ended("stop"),
			"a | stop",
		},
		{
			"a choice without delta at the end",
			chunk(`{"content":"a"}`) + ended("stop") +
				`data: {"choices":[{"index":0,"finish_reason":null,"content_filter_offsets":{"check_offset":5}}]}` +
				"\n\n" + done,
			"a | stop",
		},
		{
			"choices of null",
			`data: {"choices":null,"prompt_filter_results":[]}` + "\n\n" + chunk(`{"content":"a"}`) + ended("stop"),
			"a | stop",
		},
		{
			"another choice",
			`data: {"choices":[{"index":1,"delta":{"content":"x"}},{"index":0,"delta":{"content":"a"}}]}` + "\n\n" +
				ended("stop"),
			"a | stop",
		},
		{
			"parts",
			chunk(`{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hmm"}]}]}`) +
				chunk(`{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"},"c"]}`) + ended("stop"),
			"thinks hmm | abc | stop",
		},
		{
			"thoughts",
			chunk(`{"reasoning_content":"h"}`) + chunk(`{"reasoning_content":"m","content":""}`) +
				chunk(`{"content":"a"}`) + ended("stop"),
			"thinks hm | a | stop",
		},
		{
			"thoughts in two fields",
			chunk(`{"reasoning":"hm","reasoning_content":"hm"}`) + chunk(`{"content":"a"}`) + ended("stop"),
			`thinks hm {"field":"reasoning"} | a | stop`,
		},
		{"refusal", chunk(`{"refusal":"no"}`) + ended("stop"), "no | stop"},
		{
			"filtered",
			chunk(`{"content":"a"}`) + ended("content_filter") + done,
			"a | error: the provider's safety system stopped the answer",
		},
		{"length", chunk(`{"content":"a"}`) + ended("length") + done, "a | length"},

		{
			"half characters",
			chunk(`{"content":"a\ud83d"}`) + chunk(`{"content":"\ude00b"}`) + ended("stop"),
			"a😀b | stop",
		},
		{
			"half a character",
			chunk(`{"content":"a\ud83d"}`) + chunk(`{"content":"b"}`) + ended("stop"),
			"a\ufffdb | stop",
		},
		{"half a character at the end", chunk(`{"content":"a\ud83d"}`) + ended("stop"), "a\ufffd | stop"},
		{
			"split bytes",
			chunk("{\"content\":\"a\xf0\x9f\"}") + chunk("{\"content\":\"\x98\x80b\"}") + ended("stop"),
			"a😀b | stop",
		},
		{"bytes that are none", chunk("{\"content\":\"a\xffb\"}") + ended("stop"), "a\ufffdb | stop"},

		{
			"usage at the end",
			chunk(`{"content":"a"}`) + ended("stop") +
				`data: {"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7,"prompt_tokens_det` +
				`ails":{"cached_tokens":4}}}` + "\n\n" + done,
			"a | 7+7 | cached 4+0 | stop",
		},
		{
			"usage all along",
			`data: {"choices":[{"index":0,"delta":{"content":"a"}}],"usage":{"prompt_tokens":11,"comp` +
				`letion_tokens":1}}` + "\n\n" +
				`data: {"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":"stop"}],"usage":{"` +
				`prompt_tokens":11,"completion_tokens":2}}` + "\n\n",
			"ab | 11+2 | stop",
		},
		{
			"usage in the choice",
			`data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop","usage":{"pr` +
				`ompt_tokens":3,"completion_tokens":2}}]}` + "\n\n" + done,
			"a | 3+2 | stop",
		},
		{
			"usage of null",
			`data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}],"usage":null}` + "\n\n" +
				done,
			"a | stop",
		},
		{
			"more cached than read",
			chunk(`{"content":"a"}`) + ended("stop") +
				`data: {"usage":{"prompt_tokens":1,"completion_tokens":1,"prompt_cache_hit_tokens":5}}` + "\n\n",
			"a | 0+1 | cached 5+0 | stop",
		},

		{
			"an error",
			chunk(`{"content":"a"}`) + `data: {"error":{"message":"no credits","code":402}}` + "\n\n",
			`a | error: the provider reported an error: "{\"error\":{\"message\":\"no credits\",\"code\":402}}"`,
		},
		{
			"an error of words",
			`data: {"error":"no"}` + "\n\n",
			`error: the provider reported an error: "{\"error\":\"no\"}"`,
		},
		{
			"an error by name",
			"event: error\ndata: {\"message\":\"no\"}\n\n",
			`error: the provider reported an error: "{\"message\":\"no\"}"`,
		},
		{
			"an error beside choices",
			`data: {"error":{"message":"x"},"choices":[{"index":0,"delta":{"content":""},"finish_reas` +
				`on":"error"}]}` + "\n\n",
			`error: the provider reported an error: "{\"error\":{\"message\":\"x\"},\"choices\":[{\"i` +
				`ndex\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}]}"`,
		},
		{
			"an error in a list",
			`[{"error":{"message":"x"}}]`,
			`error: the provider reported an error: "{\"error\":{\"message\":\"x\"}}"`,
		},
		{"a detail", `{"detail":"not loaded"}`, `error: the provider reported an error: "{\"detail\":\"not loaded\"}"`},

		{
			"not streamed",
			`{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant"` +
				`,"content":"hello","tool_calls":[{"id":"a","type":"function","function":{"name":"ls","ar` +
				`guments":"{}"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":1,"completion_` +
				`tokens":2}}`,
			"hello | a=ls{} | 1+2 | tool_use",
		},

		{
			"a call",
			call(`{"index":0,"id":"a","type":"function","function":{"name":"bash","arguments":""}}`) +
				call(`{"index":0,"function":{"arguments":"{\"command\":"}}`) +
				call(`{"index":0,"function":{"arguments":"\"x\"}"}}`) + ended("tool_calls"),
			`a=bash{"command":"x"} | tool_use`,
		},
		{
			"a call that says it stopped",
			call(`{"index":0,"id":"a","function":{"name":"ls","arguments":"{}"}}`) + ended("stop"),
			"a=ls{} | tool_use",
		},
		{"calls without one", chunk(`{"content":"a"}`) + ended("tool_calls"), "a | stop"},
		{
			"two of one index",
			call(`{"index":0,"id":"a","function":{"name":"bash","arguments":"{\"c\":1}"}}`) +
				call(`{"index":0,"id":"b","function":{"name":"bash","arguments":"{\"c\":2}"}}`) + ended("tool_calls"),
			`a=bash{"c":1} | b=bash{"c":2} | tool_use`,
		},
		{
			"two of one index in pieces",
			call(`{"index":0,"id":"a","function":{"name":"bash","arguments":""}}`) +
				call(`{"index":0,"function":{"arguments":"{}"}}`) +
				call(`{"index":0,"id":"b","function":{"name":"ls","arguments":""}}`) +
				call(`{"index":0,"function":{"arguments":"{\"p\":1}"}}`) + ended("tool_calls"),
			`a=bash{} | b=ls{"p":1} | tool_use`,
		},
		{
			"two of one index without ids",
			call(`{"index":0,"function":{"name":"bash","arguments":"{\"c\":1}"}}`) +
				call(`{"index":0,"function":{"name":"bash","arguments":"{\"c\":2}"}}`) + ended("tool_calls"),
			`call_1=bash{"c":1} | call_2=bash{"c":2} | tool_use`,
		},
		{
			"two of one index without arguments",
			call(`{"index":0,"id":"a","function":{"name":"ls"}}`) +
				call(`{"index":0,"id":"b","function":{"name":"ls"}}`) + ended("tool_calls"),
			"a=ls{} | b=ls{} | tool_use",
		},
		{
			"no index",
			call(
				`{"id":"a","function":{"name":"bash","arguments":"{\"c\":1}"}},{"id":"b","functio`+
					`n":{"name":"bash","arguments":"{\"c\":1}"}}`,
			) +
				ended("tool_calls"),
			`a=bash{"c":1} | b=bash{"c":1} | tool_use`,
		},
		{
			"no index, in pieces",
			call(`{"id":"a","function":{"name":"bash","arguments":"{\"c\""}}`) +
				call(`{"function":{"arguments":":1}"}}`) + call(`{"id":"b","function":{"name":"ls"}}`) +
				call(`{"function":{"arguments":"{}"}}`) + ended("tool_calls"),
			`a=bash{"c":1} | b=ls{} | tool_use`,
		},
		{
			"neither index nor id",
			call(`{"function":{"name":"ls","arguments":"{}"}},{"function":{"name":"ls","arguments":"{}"}}`) +
				ended("tool_calls"),
			"call_1=ls{} | call_2=ls{} | tool_use",
		},
		{
			"an id that is no text",
			call(`{"index":0,"id":"a\u0000b","function":{"name":"ls","arguments":"{}"}}`) + ended("tool_calls"),
			`id_po1jFQOLWCKDbbx5eD7BWg=ls{} | tool_use`,
		},
		{
			"an id of any length",
			call(`{"index":0,"id":"`+strings.Repeat("x", 100_000)+`","function":{"name":"ls","arguments":"{}"}}`) +
				ended("tool_calls"),
			`id__4rKBuoEj8epJM-l_IS5DQ=ls{} | tool_use`,
		},
		{
			"indexes as strings",
			call(
				`{"index":"0","id":"a","function":{"name":"bash","arguments":"{\"c\""}},{"index":`+
					`"1","id":"b","function":{"name":"ls","arguments":"{"}}`,
			) +
				call(`{"index":"0","function":{"arguments":":1}"}},{"index":"1","function":{"arguments":"}"}}`) +
				ended("tool_calls"),
			`a=bash{"c":1} | b=ls{} | tool_use`,
		},
		{
			"indexes below zero",
			call(
				`{"index":-1,"id":"a","function":{"name":"ls","arguments":"{}"}},{"index":-1,"id"`+
					`:"b","function":{"name":"ls","arguments":"{}"}}`,
			) +
				ended("tool_calls"),
			`a=ls{} | b=ls{} | tool_use`,
		},
		{
			"a message that repeats the deltas",
			`data: {"choices":[{"index":0,"delta":{"content":"a"},"message":{"content":"a"}}]}` + "\n\n" +
				`data: {"choices":[{"index":0,"delta":{"content":"b"},"message":{"content":"ab"},"finish_` +
				`reason":"stop"}]}` + "\n\n",
			"ab | stop",
		},
		{
			"gaps",
			call(`{"index":3,"id":"a","function":{"name":"ls","arguments":"{}"}}`) +
				call(`{"index":1,"id":"b","function":{"name":"bash","arguments":"{}"}}`) + ended("tool_calls"),
			"a=ls{} | b=bash{} | tool_use",
		},
		{
			"interleaved",
			call(
				`{"index":0,"id":"a","function":{"name":"bash","arguments":"{\"c\""}},{"index":1,`+
					`"id":"b","function":{"name":"ls","arguments":"{\"p\""}}`,
			) +
				call(`{"index":1,"function":{"arguments":":2}"}},{"index":0,"function":{"arguments":":1}"}}`) +
				ended("tool_calls"),
			`a=bash{"c":1} | b=ls{"p":2} | tool_use`,
		},
		{
			"one index, two ids, interleaved",
			call(`{"index":0,"id":"a","function":{"name":"bash","arguments":"{\"x\":"}}`) +
				call(`{"index":0,"id":"b","function":{"name":"bash","arguments":"{\"x\":"}}`) +
				call(`{"index":0,"id":"a","function":{"arguments":"1}"}}`) +
				call(`{"index":0,"id":"b","function":{"arguments":"2}"}}`) + ended("tool_calls"),
			`a=bash{"x":1} | b=bash{"x":2} | tool_use`,
		},
		{
			"an index at the beginning only",
			call(`{"index":0,"id":"a","function":{"name":"bash","arguments":"{\"x\":"}}`) +
				call(`{"index":1,"id":"b","function":{"name":"bash","arguments":"{\"x\":"}}`) +
				call(`{"id":"a","function":{"arguments":"1}"}}`) +
				call(`{"id":"b","function":{"arguments":"2}"}}`) + ended("tool_calls"),
			`a=bash{"x":1} | b=bash{"x":2} | tool_use`,
		},
		{
			"no index, one id, in pieces",
			call(`{"id":"a","function":{"name":"bash","arguments":"{\"x\":"}}`) +
				call(`{"id":"a","function":{"arguments":"1}"}}`) +
				call(`{"id":"a","function":{"name":"bash","arguments":"{\"x\":"}}`) +
				call(`{"id":"a","function":{"arguments":"2}"}}`) + ended("tool_calls"),
			`a=bash{"x":1} | a_2=bash{"x":2} | tool_use`,
		},
		{
			"chunks in a list",
			`data: [{"choices":[{"delta":{"content":"hel"}}]},{"choices":[{"delta":{"content":"lo"}}]}]` + "\n\n" +
				ended("stop"),
			"hello | stop",
		},
		{
			"one id, two indexes",
			call(
				`{"index":0,"id":"x","function":{"name":"bash","arguments":"{\"c\":1}"}},{"index"`+
					`:1,"id":"x","function":{"name":"bash","arguments":"{\"c\":2}"}}`,
			) +
				ended("tool_calls"),
			`x=bash{"c":1} | x_2=bash{"c":2} | tool_use`,
		},
		{
			"one id, the same twice",
			call(
				`{"index":0,"id":"x","function":{"name":"ls","arguments":"{}"}},{"index":1,"id":"`+
					`x","function":{"name":"ls","arguments":"{}"}}`,
			) +
				ended("tool_calls"),
			`x=ls{} | x_2=ls{} | tool_use`,
		},
		{
			"one id, no index",
			call(`{"id":"x","function":{"name":"bash","arguments":"{\"c\":1}"}}`) +
				call(`{"id":"x","function":{"name":"bash","arguments":"{\"c\":2}"}}`) + ended("tool_calls"),
			`x=bash{"c":1} | x_2=bash{"c":2} | tool_use`,
		},
		{
			"an id that another id would become",
			call(
				`{"index":0,"id":"x","function":{"name":"ls"}},{"index":1,"id":"x_2","function":{`+
					`"name":"ls"}},{"index":2,"id":"x","function":{"name":"ls"}}`,
			) +
				ended("tool_calls"),
			"x=ls{} | x_2=ls{} | x_3=ls{} | tool_use",
		},
		{
			"an id in every piece",
			call(`{"index":0,"id":"a","function":{"name":"bash","arguments":"{\"c\""}}`) +
				call(`{"index":0,"id":"a","function":{"name":"bash","arguments":":1}"}}`) + ended("tool_calls"),
			`a=bash{"c":1} | tool_use`,
		},
		{
			"the whole again",
			call(`{"index":0,"id":"a","function":{"name":"bash","arguments":"{\"c\":1}"}}`) +
				call(`{"index":0,"id":"a","function":{"name":"bash","arguments":"{\"c\":1}"}}`) + ended("tool_calls"),
			`a=bash{"c":1} | tool_use`,
		},
		{
			"a name in pieces",
			call(`{"index":0,"id":"a","function":{"name":"ba"}}`) + call(`{"index":0,"function":{"name":"sh"}}`) +
				call(`{"index":0,"function":{"arguments":"{}"}}`) + ended("tool_calls"),
			"a=bash{} | tool_use",
		},
		{
			"a name that grows",
			call(`{"index":0,"id":"a","function":{"name":"ba"}}`) + call(`{"index":0,"function":{"name":"bash"}}`) +
				ended("tool_calls"),
			"a=bash{} | tool_use",
		},
		{
			"two names in a row",
			call(`{"index":0,"function":{"name":"ls"}}`) + call(`{"index":0,"function":{"name":"bash"}}`) +
				ended("tool_calls"),
			"call_1=ls{} | call_2=bash{} | tool_use",
		},
		{
			"no name",
			call(`{"index":0,"id":"a","function":{"arguments":"{}"}}`) + ended("tool_calls"),
			"a=unnamed{} | tool_use",
		},
		{
			"an id that comes later",
			call(`{"index":0,"function":{"name":"ls"}}`) +
				call(`{"index":0,"id":"a","function":{"arguments":"{}"}}`) + ended("tool_calls"),
			"a=ls{} | tool_use",
		},
		{
			"arguments that are an object",
			call(`{"index":0,"id":"a","function":{"name":"bash","arguments":{"c": 1}}}`) + ended("tool_calls"),
			`a=bash{"c": 1} | tool_use`,
		},
		{
			"arguments that are null",
			call(`{"index":0,"id":"a","function":{"name":"ls","arguments":null}}`) + ended("tool_calls"),
			"a=ls{} | tool_use",
		},
		{
			"a function_call",
			chunk(`{"function_call":{"name":"bash","arguments":"{\"c\""}}`) +
				chunk(`{"function_call":{"arguments":":1}"}}`) + ended("function_call"),
			`call_1=bash{"c":1} | tool_use`,
		},
		{
			"extra content",
			call(
				`{"index":0,"id":"a","function":{"name":"ls","arguments":"{}"},"extra_content":{"`+
					`google":{"thought_signature":"s"}}}`,
			) +
				ended("tool_calls"),
			`a=ls{} {"extra_content":{"google":{"thought_signature":"s"}}} | tool_use`,
		},
		{
			"text behind a call",
			call(`{"index":0,"id":"a","function":{"name":"ls","arguments":"{}"}}`) + chunk(`{"content":"x"}`) +
				ended("tool_calls"),
			"x | a=ls{} | tool_use",
		},
		{
			"split escapes in arguments",
			call(`{"index":0,"id":"a","function":{"name":"ls","arguments":"{\"p\":\"\\ud8"}}`) +
				call(`{"index":0,"function":{"arguments":"3d\\ude00\"}"}}`) + ended("tool_calls"),
			`a=ls{"p":"\ud83d\ude00"} | tool_use`,
		},
		{
			"half a character in arguments",
			call(`{"index":0,"id":"a","function":{"name":"ls","arguments":"{\"p\":\"\\ud83dx\"}"}}`) +
				ended("tool_calls"),
			`a=ls{"p":"\ufffdx"} | tool_use`,
		},
		{
			"a cut call that the reason does not tell of",
			call(`{"index":0,"id":"a","function":{"name":"bash","arguments":"{\"c\":"}}`) + done,
			"a=bash! Your JSON was cut at byte 5. The tool was not called. What came of the arguments" +
				":\n{\"c\":\n\nCall the tool again with a whole JSON object. | tool_use",
		},
		{
			"a call that the limit cut before its arguments",
			call(`{"index":0,"id":"a","function":{"name":"ls"}},{"index":1,"id":"b","function":{"name":"ls"}}`) +
				ended("length"),
			"a=ls{} | b=ls! Your JSON was cut at byte 0, because your answer reached its limit of len" +
				"gth; do less in one call, or make several. The tool was not called. What came of the arg" +
				"uments:\n\n\nCall the tool again with a whole JSON object. | length",
		},
		{
			"one call without a list",
			chunk(`{"tool_calls":{"index":0,"id":"a","function":{"name":"ls","arguments":"{}"}}}`) +
				ended("tool_calls"),
			"a=ls{} | tool_use",
		},
		{
			"calls of another shape beside a text",
			chunk(`{"content":"a","tool_calls":"ls()"}`) + ended("tool_calls"),
			"a | error: the tool calls of the provider's answer are no list of objects: \"\\\"ls()\\\"\"",
		},
		{
			"calls that are no objects",
			call(`"ls()"`) + ended("tool_calls"),
			"error: the tool calls of the provider's answer are no list of objects: \"[\\\"ls()\\\"]\"",
		},
		{
			"a call without the object of its function",
			call(`{"index":0,"id":"a","type":"function","name":"ls","arguments":"{}"}`) + ended("tool_calls"),
			"a=ls{} | tool_use",
		},
		{
			"one choice without a list",
			`data: {"choices":{"delta":{"content":"a"},"finish_reason":"stop"}}` + "\n\n" + done,
			"a | stop",
		},
		{"one part without a list", chunk(`{"content":{"type":"text","text":"a"}}`) + ended("stop"), "a | stop"},
		{
			"a delta that is the text",
			`data: {"choices":[{"delta":"a"}]}` + "\n\n" + ended("stop"),
			"a | stop",
		},
		{
			"a text of the older API",
			`data: {"choices":[{"text":"a","finish_reason":"stop"}]}` + "\n\n" + done,
			"a | stop",
		},
		{
			"nothing but content of another shape",
			chunk(`{"content":42}`) + ended("stop"),
			"error: the provider's answer has nothing but content of an unknown kind: \"42\"",
		},
		{
			"nothing but parts of another kind",
			chunk(`{"content":[{"type":"hologram"}]}`) + ended("stop"),
			"error: the provider's answer has nothing but content of an unknown kind: " +
				"\"{\\\"type\\\":\\\"hologram\\\"}\"",
		},
		{
			"content of another shape beside a text",
			chunk(`{"content":42}`) + chunk(`{"content":"a"}`) + ended("stop"),
			"a | stop",
		},
	})
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

func event(kind, data string) string {
	if data != "" {
		data = "," + data
	}
	return "event: " + kind + "\ndata: {\"type\":\"" + kind + "\"" + data + "}\n\n"
}

func TestAnthropic(t *testing.T) {
	begin := event(
		"message_start",
		`"message":{"id":"m","type":"message","role":"assistant","content":[],`+
			`"usage":{"input_tokens":10,"output_tokens":1}}`,
	)
	end := func(reason string) string {
		return event(
			"message_delta", `"delta":{"stop_reason":"`+reason+`","stop_sequence":null},"usage":{"output_tokens":5}`,
		)
	}
	stop := event("message_stop", "")
	open := func(i int, block string) string {
		return event("content_block_start", fmt.Sprintf(`"index":%d,"content_block":%s`, i, block))
	}
	delta := func(i int, d string) string {
		return event("content_block_delta", fmt.Sprintf(`"index":%d,"delta":%s`, i, d))
	}
	shut := func(i int) string { return event("content_block_stop", fmt.Sprintf(`"index":%d`, i)) }
	text := func(i int, s string) string {
		return open(i, `{"type":"text","text":""}`) + delta(i, `{"type":"text_delta","text":"`+s+`"}`)
	}
	tool := func(i int, id, name string, pieces ...string) string {
		s := open(i, `{"type":"tool_use","id":"`+id+`","name":"`+name+`","input":{}}`)
		for _, p := range pieces {
			s += delta(i, `{"type":"input_json_delta","partial_json":"`+p+`"}`)
		}
		return s
	}
	checkAll(t, model.APIAnthropic, []answer{
		{"plain", begin + text(0, "hello") + shut(0) + end("end_turn") + stop, "hello | 10+5 | stop"},
		{"no stop of the message", begin + text(0, "hello") + shut(0) + end("end_turn"), "hello | 10+5 | stop"},
		{"no reason", begin + text(0, "hello") + shut(0) + stop, "hello | 10+1 | stop"},
		{"cut", begin + text(0, "hello") + shut(0), "hello | error: the stream ended before its end"},
		{"an open block", begin + text(0, "hello") + end("end_turn") + stop, "hello | 10+5 | stop"},
		{"no start of the message", text(0, "a") + shut(0) + end("end_turn") + stop, "a | 0+5 | stop"},
		{
			"no start of the block",
			begin + delta(0, `{"type":"text_delta","text":"a"}`) + shut(0) + end("end_turn") + stop,
			"a | 10+5 | stop",
		},
		{
			"text in the start",
			begin + open(0, `{"type":"text","text":"a"}`) + delta(0, `{"type":"text_delta","text":"b"}`) +
				end("end_turn") + stop,
			"ab | 10+5 | stop",
		},
		{
			"no types in the data",
			"event: content_block_delta\ndata: {\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text" +
				"\":\"a\"}}\n\n" + end("end_turn") + stop,
			"a | 0+5 | stop",
		},
		{
			"usage at the end",
			event("message_start", `"message":{}`) + text(0, "a") +
				event(
					"message_delta",
					`"delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":3,"output_tokens":5,"`+
						`cache_read_input_tokens":2,"cache_creation_input_tokens":1}`,
				) +
				stop,
			"a | 3+5 | cached 2+1 | stop",
		},
		{
			"no usage",
			event("message_start", `"message":{}`) + text(0, "a") +
				event("message_delta", `"delta":{"stop_reason":"end_turn"}`) + stop,
			"a | stop",
		},
		{"nothing said", begin + end("end_turn") + stop, "10+5 | stop"},
		{"nothing at all", begin + stop, "error: the provider's stream ended without an answer"},
		{
			"thoughts",
			begin + open(0, `{"type":"thinking","thinking":"","signature":""}`) +
				delta(0, `{"type":"thinking_delta","thinking":"hm"}`) +
				delta(0, `{"type":"signature_delta","signature":"a"}`) +
				delta(0, `{"type":"signature_delta","signature":"b"}`) + shut(0) + text(1, "x") + end("end_turn") +
				stop,
			`thinks hm {"signature":"ab"} | x | 10+5 | stop`,
		},
		{
			"redacted thoughts",
			begin + open(0, `{"type":"redacted_thinking","data":"d"}`) + shut(0) + text(1, "x") + shut(1) +
				end("end_turn") + stop,
			`thinks  {"redacted":"d"} | x | 10+5 | stop`,
		},
		{
			"unknown things",
			begin + event("from_the_future", `"x":1`) +
				open(0, `{"type":"server_tool_use","id":"s","name":"web"}`) + delta(0, `{"type":"unknown_delta"}`) +
				shut(0) + text(1, "a") + shut(1) + end("end_turn") + stop,
			"a | 10+5 | stop",
		},
		{
			"interleaved texts",
			begin + text(0, "a") + open(1, `{"type":"text","text":""}`) +
				delta(1, `{"type":"text_delta","text":"b"}`) + delta(0, `{"type":"text_delta","text":"c"}`) + shut(0) +
				shut(1) + end("end_turn") + stop,
			"a | b | c | 10+5 | stop",
		},
		{
			"an error",
			begin + event("error", `"error":{"type":"overloaded_error","message":"Overloaded"}`),
			`error: the provider reported an error: "{\"type\":\"error\",\"error\":{\"type\":\"overlo` +
				`aded_error\",\"message\":\"Overloaded\"}}"`,
		},
		{
			"refused",
			begin + text(0, "a") + end("refusal") + stop,
			"a | error: the provider's safety system stopped the answer",
		},
		{"the window is full", begin + text(0, "a") + end("model_context_window_exceeded") + stop, "a | 10+5 | length"},

		{
			"a call",
			begin + tool(0, "t", "bash", ``, `{\"c\"`, `:1}`) + shut(0) + end("tool_use") + stop,
			`t=bash{"c":1} | 10+5 | tool_use`,
		},
		{
			"a call that ended the turn",
			begin + tool(0, "t", "ls") + shut(0) + end("end_turn") + stop,
			`t=ls{} | 10+5 | tool_use`,
		},
		{"a call of none", begin + text(0, "a") + end("tool_use") + stop, "a | 10+5 | stop"},
		{
			"input in the start",
			begin + open(0, `{"type":"tool_use","id":"t","name":"bash","input":{"c":1}}`) + shut(0) +
				end("tool_use") + stop,
			`t=bash{"c":1} | 10+5 | tool_use`,
		},
		{
			"input as a text",
			begin + open(0, `{"type":"tool_use","id":"t","name":"bash","input":"{\"c\":1}"}`) + shut(0) +
				end("tool_use") + stop,
			`t=bash{"c":1} | 10+5 | tool_use`,
		},
		{
			"one id",
			begin + tool(0, "grep:3", "bash", `{\"c\":1}`) + shut(0) + tool(1, "grep:3", "bash", `{\"c\":2}`) +
				shut(1) + end("tool_use") + stop,
			`grep:3=bash{"c":1} | grep:3_2=bash{"c":2} | 10+5 | tool_use`,
		},
		{
			"one index, stopped",
			begin + tool(0, "a", "bash", `{\"c\":1}`) + shut(0) + tool(0, "b", "bash", `{\"c\":2}`) + shut(0) +
				end("tool_use") + stop,
			`a=bash{"c":1} | b=bash{"c":2} | 10+5 | tool_use`,
		},
		{
			"one index, never stopped",
			begin + tool(0, "a", "bash", `{\"c\":1}`) + tool(0, "b", "bash", `{\"c\":2}`) + end("tool_use") + stop,
			`a=bash{"c":1} | b=bash{"c":2} | 10+5 | tool_use`,
		},
		{
			"no index",
			begin +
				strings.ReplaceAll(
					tool(0, "a", "bash", `{\"c\":1}`)+shut(0)+tool(0, "b", "ls", `{}`)+shut(0),
					`"index":0,`,
					``,
				) +
				end("tool_use") + stop,
			`a=bash{"c":1} | b=ls{} | 10+5 | tool_use`,
		},
		{
			"interleaved calls",
			begin + tool(0, "a", "bash") + tool(1, "b", "ls") +
				delta(0, `{"type":"input_json_delta","partial_json":"{\"c\":1}"}`) +
				delta(1, `{"type":"input_json_delta","partial_json":"{\"p\":2}"}`) + shut(1) + shut(0) +
				end("tool_use") + stop,
			`b=ls{"p":2} | a=bash{"c":1} | 10+5 | tool_use`,
		},
		{
			"a call between texts",
			begin + text(0, "a") + shut(0) + tool(1, "t", "ls") + shut(1) + text(2, "b") + shut(2) +
				end("tool_use") + stop,
			"a | t=ls{} | b | 10+5 | tool_use",
		},
		{
			"a call that was cut",
			begin + tool(0, "t", "bash", `{\"c`) + end("max_tokens") + stop,
			"t=bash! Your JSON was cut at byte 3, because your answer reached its limit of length; do" +
				" less in one call, or make several. The tool was not called. What came of the arguments:" +
				"\n{\"c\n\nCall the tool again with a whole JSON object. | 10+5 | length",
		},
		{
			"not streamed",
			`{"id":"m","type":"message","role":"assistant","content":[{"type":"text","text":"a"},{"ty` +
				`pe":"tool_use","id":"t","name":"ls","input":{"p":1}}],"stop_reason":"tool_use","usage":{` +
				`"input_tokens":1,"output_tokens":2}}`,
			`a | t=ls{"p":1} | 1+2 | tool_use`,
		},
		{
			"not streamed, on several lines",
			"{\"type\":\"message\",\n\"content\":[\n{\"type\":\"text\",\n\"text\":\"a\"}],\n\"stop_re" +
				"ason\":\"end_turn\"}\n",
			`a | stop`,
		},
		{
			"nothing but blocks of another kind",
			begin + open(0, `{"type":"mcp_tool_use"}`) + end("tool_use") + stop,
			"error: the provider's answer has nothing but content of an unknown kind: " +
				"\"{\\\"type\\\":\\\"mcp_tool_use\\\"}\"",
		},
	})
}

func TestResponses(t *testing.T) {
	begin := event("response.created", `"response":{"id":"r","status":"in_progress"}`)
	end := event(
		"response.completed",
		`"response":{"id":"r","status":"completed","usage":{"input_tokens":10,"output_tokens":5,`+
			`"input_tokens_details":{"cached_tokens":4}}}`,
	)
	const used = "6+5 | cached 4+0"
	added := func(i int, item string) string {
		return event("response.output_item.added", fmt.Sprintf(`"output_index":%d,"item":%s`, i, item))
	}
	finished := func(i int, item string) string {
		return event("response.output_item.done", fmt.Sprintf(`"output_index":%d,"item":%s`, i, item))
	}
	text := func(i int, s string) string {
		return event(
			"response.output_text.delta",
			fmt.Sprintf(`"item_id":"m%d","output_index":%d,"content_index":0,"delta":"%s"`, i, i, s),
		)
	}
	call := func(item, id, args string) string {
		return `{"id":"` + item + `","type":"function_call","call_id":"` + id + `","name":"bash","arguments":"` +
			args + `"}`
	}
	args := func(i int, item, s string) string {
		return event(
			"response.function_call_arguments.delta",
			fmt.Sprintf(`"item_id":"%s","output_index":%d,"delta":"%s"`, item, i, s),
		)
	}
	message := `{"id":"m0","type":"message","content":[{"type":"output_text","text":"hello"}]}`
	checkAll(t, model.APIResponses, []answer{
		{
			"plain",
			begin + added(0, `{"id":"m0","type":"message","content":[]}`) + text(0, "hel") + text(0, "lo") +
				finished(0, message) + end,
			"hello | " + used + " | stop",
		},
		{"no items", begin + text(0, "hello") + end, "hello | " + used + " | stop"},
		{
			"no deltas",
			begin + added(0, `{"id":"m0","type":"message","content":[]}`) + finished(0, message) + end,
			"hello | " + used + " | stop",
		},
		{
			"nothing but the end",
			event(
				"response.completed",
				`"response":{"status":"completed","output":[`+message+`,`+call("f", "c", `{\"a\":1}`)+`]}`,
			),
			`hello | c=bash{"a":1} | tool_use`,
		},
		{
			"the end repeats",
			begin + added(0, `{"id":"m0","type":"message"}`) + text(0, "hello") + finished(0, message) +
				event("response.completed", `"response":{"status":"completed","output":[`+message+`]}`),
			"hello | stop",
		},
		{
			"the end repeats under other ids",
			begin + added(0, `{"id":"m0","type":"message"}`) + text(0, "hello") + finished(0, message) +
				event(
					"response.completed",
					`"response":{"status":"completed","output":[{"id":"other","type":"message","conte`+
						`nt":[{"type":"output_text","text":"hello"}]}]}`,
				),
			"hello | stop",
		},
		{"cut", begin + text(0, "hello"), "hello | error: the stream ended before its end"},
		{"done", begin + text(0, "hello") + done, "hello | stop"},
		{
			"incomplete",
			begin + text(0, "a") +
				event(
					"response.incomplete",
					`"response":{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}}`,
				),
			"a | length",
		},
		{
			"filtered",
			begin + text(0, "a") +
				event(
					"response.incomplete",
					`"response":{"status":"incomplete","incomplete_details":{"reason":"content_filter"}}`,
				),
			"a | error: the provider's safety system stopped the answer",
		},
		{
			"failed",
			begin +
				event(
					"response.failed",
					`"response":{"status":"failed","error":{"code":"server_error","message":"x"}}`,
				),
			`error: the provider reported an error: "{\"type\":\"response.failed\",\"response\":{\"st` +
				`atus\":\"failed\",\"error\":{\"code\":\"server_error\",\"message\":\"x\"}}}"`,
		},
		{
			"an error",
			event("error", `"code":"x","message":"y"`),
			`error: the provider reported an error: "{\"type\":\"error\",\"code\":\"x\",\"message\":\"y\"}"`,
		},
		{
			"an error object",
			`data: {"error":{"message":"y"}}` + "\n\n",
			`error: the provider reported an error: "{\"error\":{\"message\":\"y\"}}"`,
		},
		{
			"thoughts",
			begin + added(0, `{"id":"r0","type":"reasoning","summary":[]}`) +
				event(
					"response.reasoning_summary_text.delta",
					`"item_id":"r0","output_index":0,"summary_index":0,"delta":"h"`,
				) +
				event(
					"response.reasoning_summary_text.delta",
					`"item_id":"r0","output_index":0,"summary_index":1,"delta":"m"`,
				) +
				finished(0, `{"id":"r0","type":"reasoning","summary":[],"encrypted_content":"e"}`) + text(1, "a") +
				end,
			"thinks h\n\nm {\"item\":{\"id\":\"r0\",\"type\":\"reasoning\",\"summary\":[],\"encrypted" +
				"_content\":\"e\"}} | a | " + used + " | stop",
		},
		{
			"silent thoughts",
			begin + finished(0, `{"id":"r0","type":"reasoning","summary":[],"encrypted_content":"e"}`) +
				text(1, "a") + end,
			"thinks  {\"item\":{\"id\":\"r0\",\"type\":\"reasoning\",\"summary\":[],\"encrypted_conte" +
				"nt\":\"e\"}} | a | " + used + " | stop",
		},
		{
			"refusal",
			begin + event("response.refusal.delta", `"item_id":"m0","output_index":0,"delta":"no"`) + end,
			"no | " + used + " | stop",
		},

		{
			"a call",
			begin + added(0, call("f", "c", "")) + args(0, "f", `{\"a\"`) + args(0, "f", `:1}`) +
				finished(0, call("f", "c", `{\"a\":1}`)) + end,
			`c=bash{"a":1} | ` + used + " | tool_use",
		},
		{
			"a call without pieces",
			begin + added(0, call("f", "c", "")) + finished(0, call("f", "c", `{\"a\":1}`)) + end,
			`c=bash{"a":1} | ` + used + " | tool_use",
		},
		{
			"a call that is never done",
			begin + added(0, call("f", "c", "")) + args(0, "f", `{\"a\":1}`) + end,
			`c=bash{"a":1} | ` + used + " | tool_use",
		},
		{
			"a call done by its arguments",
			begin + added(0, call("f", "c", "")) +
				event(
					"response.function_call_arguments.done",
					`"item_id":"f","output_index":0,"arguments":"{\"a\":1}"`,
				) +
				end,
			`c=bash{"a":1} | ` + used + " | tool_use",
		},
		{
			"two calls of one id",
			begin + added(0, call("f", "c", "")) + args(0, "f", `{\"a\":1}`) +
				finished(0, call("f", "c", `{\"a\":1}`)) + added(1, call("g", "c", "")) + args(1, "g", `{\"a\":2}`) +
				finished(1, call("g", "c", `{\"a\":2}`)) + end,
			`c=bash{"a":1} | c_2=bash{"a":2} | ` + used + " | tool_use",
		},
		{
			"two calls of one item",
			begin + added(0, call("f", "c", "")) + args(0, "f", `{\"a\":1}`) +
				finished(0, call("f", "c", `{\"a\":1}`)) + added(0, call("f", "d", "")) + args(0, "f", `{\"a\":2}`) +
				finished(0, call("f", "d", `{\"a\":2}`)) + end,
			`c=bash{"a":1} | d=bash{"a":2} | ` + used + " | tool_use",
		},
		{
			"one index, interleaved",
			begin + added(0, call("f", "c", "")) + added(0, call("g", "d", "")) + args(0, "f", `{\"a\":1}`) +
				args(0, "g", `{\"a\":2}`) + end,
			`c=bash{"a":1} | d=bash{"a":2} | ` + used + " | tool_use",
		},
		{
			"another id in every event",
			begin + added(0, call("f1", "c", "")) + args(0, "f2", `{\"a\"`) + args(0, "f3", `:1}`) +
				finished(0, call("f4", "c", `{\"a\":1}`)) +
				event(
					"response.completed",
					`"response":{"status":"completed","output":[`+call("f5", "c", `{\"a\":1}`)+`]}`,
				),
			`c=bash{"a":1} | tool_use`,
		},
		{
			"items without id and index, told again at the end",
			event("response.output_text.delta", `"delta":"hello"`) +
				event("response.output_item.done", `"item":`+message) +
				event("response.output_item.done", `"item":`+call("other", "c", "{}")) +
				event(
					"response.completed",
					`"response":{"status":"completed","output":[`+message+`,`+call("f1", "c", "{}")+`]}`,
				),
			"hello | c=bash{} | tool_use",
		},
		{
			"not streamed",
			`{"id":"r","object":"response","status":"completed","output":[` + message +
				`],"usage":{"input_tokens":1,"output_tokens":2}}`,
			"hello | 1+2 | stop",
		},
		{
			"not streamed and incomplete",
			`{"id":"r","object":"response","status":"incomplete","incomplete_details":{"reason":"max_` +
				`output_tokens"},"output":[` + message + `]}`,
			"hello | length",
		},
		{
			"nothing but items of another kind",
			begin + finished(0, `{"type":"custom_tool_call"}`) + end,
			"error: the provider's answer has nothing but content of an unknown kind: " +
				"\"{\\\"type\\\":\\\"custom_tool_call\\\"}\"",
		},
	})
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
		for _, api := range []model.API{model.APIAnthropic, model.APIChat, model.APIResponses} {
			got := tell(t, parts(api, strings.NewReader(src)))
			if !strings.HasPrefix(got, want) || len(got) > 500 {
				t.Errorf("%s: %.50q…\ngot  %.500s\nwant %s", api, src, got, want)
			}
		}
	}
}
