package modeltest

import "github.com/pawl-dev/pawl/services/control/model"

// Chat is the protocol of OpenAI's Chat Completions, with the reasoning_content that compatible servers add.
var Chat = Wire{
	API:    model.APIChat,
	Path:   "/chat/completions",
	Stream: chatStream,
	Error:  openAIError,
	ErrorEvent: func(kind, message string) Event {
		return Event{Data: openAIError(kind, message)}
	},
}

func openAIError(kind, message string) string {
	return text(object{"error": object{"message": message, "type": kind, "code": kind, "param": nil}})
}

func chatStream(t Turn) Play {
	u := t.usage()
	chunk := func(delta object, reason any) Event {
		return event("", object{
			"id": "chatcmpl_1", "object": "chat.completion.chunk", "created": 1, "model": "m",
			"choices": []any{object{"index": 0, "delta": delta, "finish_reason": reason}},
		})
	}
	p := Play{chunk(object{"role": "assistant", "content": ""}, nil), {Raw: ": ping\n\n"}}
	for _, s := range t.Thinking {
		p = append(p, chunk(object{"reasoning_content": s}, nil))
	}
	for _, s := range t.Text {
		p = append(p, chunk(object{"content": s}, nil))
	}
	for i, c := range t.Calls {
		p = append(p, chunk(object{"tool_calls": []any{object{
			"index": i, "id": c.ID, "type": "function", "function": object{"name": c.Tool, "arguments": ""},
		}}}, nil))
		for _, s := range c.Args {
			p = append(p, chunk(object{"tool_calls": []any{object{"index": i, "function": object{"arguments": s}}}},
				nil))
		}
	}
	reason := map[model.Stop]string{
		model.StopEnd: "stop", model.StopLength: "length",
		model.StopTools: "tool_calls",
	}[t.stop()]
	if t.Refused {
		reason = "content_filter"
	}
	return append(p,
		chunk(object{}, reason),
		event("", object{
			"id": "chatcmpl_1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []any{},
			"usage": object{
				"prompt_tokens": u.Input + u.CacheRead, "completion_tokens": u.Output, "total_tokens": u.Input +
					u.CacheRead + u.Output,
				"prompt_tokens_details": object{"cached_tokens": u.CacheRead},
			},
		}),
		Event{Data: "[DONE]"})
}
