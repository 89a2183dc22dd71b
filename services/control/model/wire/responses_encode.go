package wire

import (
	"github.com/pawl-dev/pawl/internal/rawjson"
	"github.com/pawl-dev/pawl/services/control/model"
)

// responsesFormat is that of OpenAI's Responses: a list of items.
type responsesFormat struct{}

func (responsesFormat) user(dst []byte, parts []content) []byte {
	return append(listed(append(dst, `{"role":"user","content":[`...), parts, responsesPart), `]}`...)
}

func responsesPart(dst []byte, p content) []byte {
	if p.image == nil {
		return append(rawjson.AppendString(append(dst, `{"type":"input_text","text":`...), p.text), '}')
	}
	return append(appendDataURL(append(dst, `{"type":"input_image","image_url":`...), p.image), '}')
}

func (responsesFormat) assistant(dst []byte, parts []content) []byte {
	return listed(dst, parts, responsesItem)
}

func responsesItem(dst []byte, p content) []byte {
	switch p.kind {
	case model.ThinkingBlock:
		return append(dst, member(p.meta, "item")...) // without its encrypted content a thought is of no use
	case model.ToolCallBlock:
		dst = rawjson.AppendString(append(dst, `{"type":"function_call","call_id":`...), p.id)
		dst = rawjson.AppendString(append(dst, `,"name":`...), p.tool)
		return append(rawjson.AppendString(append(dst, `,"arguments":`...), string(p.args)), '}')
	}
	return append(rawjson.AppendString(append(dst, `{"role":"assistant","content":`...), p.text), '}')
}

func (f responsesFormat) results(dst []byte, results []outcome) []byte {
	return separate(dst, results, f, func(dst []byte, r outcome) []byte {
		dst = rawjson.AppendString(append(dst, `{"type":"function_call_output","call_id":`...), r.id)
		return append(rawjson.AppendString(append(dst, `,"output":`...), resultText(r)), '}')
	})
}
