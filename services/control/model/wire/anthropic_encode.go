package wire

import (
	"slices"

	"github.com/pawl-dev/pawl/internal/rawjson"
	"github.com/pawl-dev/pawl/services/control/model"
)

// anthropicFormat is that of Anthropic's Messages. Every turn ends with "}]}": the last piece, the list, the turn.
type anthropicFormat struct{}

func (anthropicFormat) user(dst []byte, parts []content) []byte {
	return append(anthropicParts(append(dst, `{"role":"user","content":[`...), parts), `]}`...)
}

func (anthropicFormat) assistant(dst []byte, parts []content) []byte {
	return append(anthropicParts(append(dst, `{"role":"assistant","content":[`...), parts), `]}`...)
}

func anthropicParts(dst []byte, parts []content) []byte { return listed(dst, parts, anthropicPart) }

func anthropicPart(dst []byte, p content) []byte {
	switch p.kind {
	case model.ImageBlock:
		dst = append(dst, `{"type":"image","source":{"type":"base64","media_type":`...)
		dst = append(rawjson.AppendString(dst, p.image.MediaType), `,"data":"`...)
		return append(appendBase64(dst, p.image.Data), `"}}`...)
	case model.ToolCallBlock:
		dst = rawjson.AppendString(append(dst, `{"type":"tool_use","id":`...), p.id)
		dst = rawjson.AppendString(append(dst, `,"name":`...), p.tool)
		return append(append(append(dst, `,"input":`...), p.args...), '}')
	case model.ThinkingBlock:
		if blocks := member(p.meta, "blocks"); len(blocks) > 2 {
			return append(dst, blocks[1:len(blocks)-1]...) // a search and its result
		}
		if data := opaqueField(p.meta, "redacted"); data != nil {
			return append(append(append(dst, `{"type":"redacted_thinking","data":`...), data...), '}')
		}
		signature := opaqueField(p.meta, "signature")
		if signature == nil {
			return dst // a thought without a signature is refused
		}
		dst = rawjson.AppendString(append(dst, `{"type":"thinking","thinking":`...), p.text)
		return append(append(append(dst, `,"signature":`...), signature...), '}')
	}
	dst = rawjson.AppendString(append(dst, `{"type":"text","text":`...), p.text)
	if citations := member(p.meta, "citations"); citations != nil {
		dst = append(append(dst, `,"citations":`...), citations...)
	}
	return append(dst, '}')
}

func (anthropicFormat) results(dst []byte, results []outcome) []byte {
	// Texts come after all results: nothing may stand before them.
	texts := slices.DeleteFunc(slices.Clone(results), func(r outcome) bool { return !r.plain })
	results = append(slices.DeleteFunc(results, func(r outcome) bool { return r.plain }), texts...)
	return append(listed(append(dst, `{"role":"user","content":[`...), results, anthropicResult), `]}`...)
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
	dst = rawjson.AppendString(append(dst, `{"type":"tool_result","tool_use_id":`...), r.id)
	if r.failed {
		dst = append(dst, `,"is_error":true`...)
	}
	return append(anthropicParts(append(dst, `,"content":[`...), parts), `]}`...)
}
