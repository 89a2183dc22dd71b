package wire_test

import (
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/model"
)

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
