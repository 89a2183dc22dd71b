package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/model"
)

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
