package wire

import "github.com/pawl-dev/pawl/services/control/model"

// responsesFormat is that of OpenAI's Responses: a list of items.
type responsesFormat struct{}

func (responsesFormat) user(dst []byte, parts []content) []byte {
	return append(listed(append(dst, `{"role":"user","content":[`...), parts, responsesPart), `]}`...)
}

func responsesPart(dst []byte, p content) []byte {
	if p.image == nil {
		return append(appendString(append(dst, `{"type":"input_text","text":`...), p.text), '}')
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
		dst = appendString(append(dst, `{"type":"function_call","call_id":`...), p.id)
		dst = appendString(append(dst, `,"name":`...), p.tool)
		return append(appendString(append(dst, `,"arguments":`...), string(p.args)), '}')
	}
	return append(appendString(append(dst, `{"role":"assistant","content":`...), p.text), '}')
}

func (f responsesFormat) results(dst []byte, results []outcome) []byte {
	return separate(dst, results, f, func(dst []byte, r outcome) []byte {
		dst = appendString(append(dst, `{"type":"function_call_output","call_id":`...), r.id)
		return append(appendString(append(dst, `,"output":`...), resultText(r)), '}')
	})
}
