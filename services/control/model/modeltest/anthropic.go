package modeltest

import "github.com/pawl-dev/pawl/services/control/model"

// Anthropic is the protocol of Anthropic's Messages.
var Anthropic = Wire{
	API:    model.APIAnthropic,
	Path:   "/v1/messages",
	Stream: anthropicStream,
	Error: func(kind, message string) string {
		return text(object{"type": "error", "error": object{"type": kind, "message": message}, "request_id": "req_1"})
	},
	ErrorEvent: func(kind, message string) Event {
		return event("error", object{"type": "error", "error": object{"type": kind, "message": message}})
	},
}

func anthropicStream(t Turn) Play {
	u := t.usage()
	p := Play{
		event("message_start", object{"type": "message_start", "message": object{
			"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": []any{}, "stop_reason": nil,
			"usage": object{
				"input_tokens": u.Input, "output_tokens": 1,
				"cache_creation_input_tokens": u.CacheWrite, "cache_read_input_tokens": u.CacheRead,
			},
		}}),
		event("ping", object{"type": "ping"}),
	}
	n := 0
	block := func(start object, deltas ...object) {
		p = append(p, event("content_block_start", object{
			"type": "content_block_start", "index": n,
			"content_block": start,
		}))
		for _, d := range deltas {
			p = append(p, event("content_block_delta", object{"type": "content_block_delta", "index": n, "delta": d}))
		}
		p = append(p, event("content_block_stop", object{"type": "content_block_stop", "index": n}))
		n++
	}
	if t.Redacted != "" {
		block(object{"type": "redacted_thinking", "data": t.Redacted})
	}
	if len(t.Thinking) > 0 || t.Signature != "" {
		ds := deltas("thinking_delta", "thinking", t.Thinking)
		block(object{"type": "thinking", "thinking": "", "signature": ""},
			append(ds, object{"type": "signature_delta", "signature": t.Signature})...)
	}
	if len(t.Text) > 0 {
		block(object{"type": "text", "text": ""}, deltas("text_delta", "text", t.Text)...)
	}
	for _, c := range t.Calls {
		block(object{"type": "tool_use", "id": c.ID, "name": c.Tool, "input": object{}},
			append([]object{{"type": "input_json_delta", "partial_json": ""}},
				deltas("input_json_delta", "partial_json", c.Args)...)...)
	}
	reason := map[model.Stop]string{
		model.StopEnd: "end_turn", model.StopLength: "max_tokens",
		model.StopTools: "tool_use",
	}[t.stop()]
	if t.Refused {
		reason = "refusal"
	}
	return append(p,
		event("message_delta", object{
			"type": "message_delta", "delta": object{
				"stop_reason":   reason,
				"stop_sequence": nil,
			}, "usage": object{"output_tokens": u.Output},
		}),
		event("message_stop", object{"type": "message_stop"}))
}

func deltas(kind, field string, texts []string) []object {
	var ds []object
	for _, s := range texts {
		ds = append(ds, object{"type": kind, field: s})
	}
	return ds
}
