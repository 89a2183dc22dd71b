package wire_test

import (
	"fmt"
	"testing"

	"github.com/pawl-dev/pawl/services/control/model"
)

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
