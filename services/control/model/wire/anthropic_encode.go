package wire

import "github.com/pawl-dev/pawl/services/control/model"

// anthropicFormat is that of Anthropic's Messages. Every turn ends with "}]}": the last piece, the list, the turn.
type anthropicFormat struct{}

func (anthropicFormat) user(dst []byte, parts []content) []byte {
	dst = append(dst, `{"role":"user","content":[`...)
	return append(anthropicParts(dst, parts), `]}`...)
}

func (anthropicFormat) assistant(dst []byte, parts []content) []byte {
	dst = append(dst, `{"role":"assistant","content":[`...)
	return append(anthropicParts(dst, parts), `]}`...)
}

func anthropicParts(dst []byte, parts []content) []byte {
	first := true
	for _, p := range parts {
		before := len(dst)
		if !first {
			dst = append(dst, ',')
		}
		var ok bool
		if dst, ok = anthropicPart(dst, p); !ok {
			dst = dst[:before]
			continue
		}
		first = false
	}
	return dst
}

func anthropicPart(dst []byte, p content) ([]byte, bool) {
	switch p.kind {
	case model.ImageBlock:
		dst = append(dst, `{"type":"image","source":{"type":"base64","media_type":`...)
		dst = append(appendString(dst, p.image.MediaType), `,"data":"`...)
		return append(appendBase64(dst, p.image.Data), `"}}`...), true
	case model.ToolCallBlock:
		dst = appendString(append(dst, `{"type":"tool_use","id":`...), p.id)
		dst = appendString(append(dst, `,"name":`...), p.tool)
		dst = append(append(dst, `,"input":`...), p.args...)
		return append(dst, '}'), true
	case model.ThinkingBlock:
		if data := opaqueField(p.meta, "redacted"); data != nil {
			dst = append(append(dst, `{"type":"redacted_thinking","data":`...), data...)
			return append(dst, '}'), true
		}
		signature := opaqueField(p.meta, "signature")
		if signature == nil {
			return dst, false // a thought without a signature is refused
		}
		dst = appendString(append(dst, `{"type":"thinking","thinking":`...), p.text)
		dst = append(append(dst, `,"signature":`...), signature...)
		return append(dst, '}'), true
	default:
		dst = appendString(append(dst, `{"type":"text","text":`...), p.text)
		return append(dst, '}'), true
	}
}

func (anthropicFormat) results(dst []byte, results []outcome) []byte {
	dst = append(dst, `{"role":"user","content":[`...)
	// Texts come after all results: nothing may stand before them.
	for pass, n := 0, 0; pass < 2; pass++ {
		for _, r := range results {
			if r.plain != (pass == 1) {
				continue
			}
			if n++; n > 1 {
				dst = append(dst, ',')
			}
			dst = anthropicResult(dst, r)
		}
	}
	return append(dst, `]}`...)
}

func anthropicResult(dst []byte, r outcome) []byte {
	parts := make([]content, 0, 2)
	if r.text != "" {
		parts = append(parts, content{kind: model.TextBlock, text: r.text})
	}
	if r.image != nil {
		parts = append(parts, content{kind: model.ImageBlock, image: r.image})
	}
	if r.plain {
		return anthropicParts(dst, parts)
	}
	dst = appendString(append(dst, `{"type":"tool_result","tool_use_id":`...), r.id)
	if r.failed {
		dst = append(dst, `,"is_error":true`...)
	}
	dst = anthropicParts(append(dst, `,"content":[`...), parts)
	return append(dst, `]}`...)
}
