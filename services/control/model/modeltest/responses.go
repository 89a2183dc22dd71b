package modeltest

import (
	"strings"

	"github.com/pawl-dev/pawl/services/control/model"
)

// Responses is the protocol of OpenAI's Responses.
var Responses = Wire{
	API:    model.APIResponses,
	Path:   "/responses",
	Stream: responsesStream,
	Error:  openAIError,
	ErrorEvent: func(kind, message string) Event {
		return event("response.failed", object{"type": "response.failed", "response": object{
			"id": "resp_1", "status": "failed", "error": object{"code": kind, "message": message},
		}})
	},
}

func responsesStream(t Turn) Play {
	u := t.usage()
	var p Play
	emit := func(kind string, data object) {
		data["type"], data["sequence_number"] = kind, len(p)
		p = append(p, event(kind, data))
	}
	emit("response.created", object{"response": object{"id": "resp_1", "status": "in_progress"}})
	p = append(p, Event{Raw: ": keepalive\n\n"})
	n := 0
	item := func(start, end object, between func()) {
		emit("response.output_item.added", object{"output_index": n, "item": start})
		between()
		emit("response.output_item.done", object{"output_index": n, "item": end})
		n++
	}
	if len(t.Thinking) > 0 || t.Signature != "" {
		end := object{
			"id": "rs_1", "type": "reasoning", "encrypted_content": t.Signature,
			"summary": []any{object{"type": "summary_text", "text": strings.Join(t.Thinking, "")}},
		}
		item(object{"id": "rs_1", "type": "reasoning", "summary": []any{}}, end, func() {
			emit("response.reasoning_summary_part.added", object{
				"item_id": "rs_1", "output_index": n, "summary_index": 0,
				"part": object{"type": "summary_text", "text": ""},
			})
			for _, s := range t.Thinking {
				emit("response.reasoning_summary_text.delta", object{
					"item_id": "rs_1", "output_index": n,
					"summary_index": 0, "delta": s,
				})
			}
		})
	}
	if len(t.Text) > 0 {
		message := object{"id": "msg_1", "type": "message", "role": "assistant", "content": []any{}}
		item(message, message, func() {
			for _, s := range t.Text {
				emit("response.output_text.delta", object{
					"item_id": "msg_1", "output_index": n, "content_index": 0,
					"delta": s,
				})
			}
		})
	}
	for _, c := range t.Calls {
		call := func(args string) object {
			return object{
				"id": "fc_" + c.ID, "type": "function_call", "call_id": c.ID, "name": c.Tool,
				"arguments": args,
			}
		}
		item(call(""), call(strings.Join(c.Args, "")), func() {
			for _, s := range c.Args {
				emit("response.function_call_arguments.delta", object{
					"item_id": "fc_" + c.ID, "output_index": n,
					"delta": s,
				})
			}
		})
	}
	response := object{"id": "resp_1", "status": "completed", "usage": object{
		"input_tokens": u.Input + u.CacheRead, "output_tokens": u.Output, "total_tokens": u.Input + u.CacheRead +
			u.Output,
		"input_tokens_details": object{"cached_tokens": u.CacheRead}, "output_tokens_details": object{"reasoning_tokens": 0},
	}}
	switch {
	case t.Refused:
		response["incomplete_details"] = object{"reason": "content_filter"}
	case t.stop() == model.StopLength:
		response["incomplete_details"] = object{"reason": "max_output_tokens"}
	default:
		emit("response.completed", object{"response": response})
		return p
	}
	response["status"] = "incomplete"
	emit("response.incomplete", object{"response": response})
	return p
}
