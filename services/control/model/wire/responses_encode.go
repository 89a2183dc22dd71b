package wire

import "github.com/pawl-dev/pawl/services/control/model"

// responsesFormat is that of OpenAI's Responses: a list of items.
type responsesFormat struct{}

func (responsesFormat) user(dst []byte, parts []content) []byte {
	dst = append(dst, `{"role":"user","content":[`...)
	for i, p := range parts {
		if i > 0 {
			dst = append(dst, ',')
		}
		if p.image == nil {
			dst = append(appendString(append(dst, `{"type":"input_text","text":`...), p.text), '}')
			continue
		}
		dst = append(appendDataURL(append(dst, `{"type":"input_image","image_url":`...), p.image), '}')
	}
	return append(dst, `]}`...)
}

func (responsesFormat) assistant(dst []byte, parts []content) []byte {
	first := true
	for _, p := range parts {
		var item []byte
		if p.kind == model.ThinkingBlock {
			if item = member(p.meta, "item"); item == nil {
				continue // without its encrypted content a thought is of no use
			}
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		switch p.kind {
		case model.ThinkingBlock:
			dst = append(dst, item...)
		case model.ToolCallBlock:
			dst = appendString(append(dst, `{"type":"function_call","call_id":`...), p.id)
			dst = appendString(append(dst, `,"name":`...), p.tool)
			dst = append(appendString(append(dst, `,"arguments":`...), string(p.args)), '}')
		default:
			dst = append(appendString(append(dst, `{"role":"assistant","content":`...), p.text), '}')
		}
	}
	return dst
}

func (f responsesFormat) results(dst []byte, results []outcome) []byte {
	begin, n := len(dst), 0
	after, images := followers(results)
	for _, r := range results {
		if r.plain {
			continue
		}
		if n++; n > 1 {
			dst = append(dst, ',')
		}
		dst = appendString(append(dst, `{"type":"function_call_output","call_id":`...), r.id)
		dst = append(appendString(append(dst, `,"output":`...), resultText(r)), '}')
	}
	if len(after)+len(images) == 0 {
		return dst
	}
	if len(dst) > begin {
		dst = append(dst, ',')
	}
	return f.user(dst, append(after, images...))
}
