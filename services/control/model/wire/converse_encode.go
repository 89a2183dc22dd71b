package wire

import (
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/internal/rawjson"
	"github.com/pawl-dev/pawl/services/control/model"
)

// converseFormat is that of Bedrock's Converse. Every turn ends with "}]}": the last piece, the list, the turn.
type converseFormat struct{}

func (converseFormat) user(dst []byte, parts []content) []byte {
	return append(listed(append(dst, `{"role":"user","content":[`...), parts, conversePart), `]}`...)
}

func (converseFormat) assistant(dst []byte, parts []content) []byte {
	return append(listed(append(dst, `{"role":"assistant","content":[`...), parts, conversePart), `]}`...)
}

func conversePart(dst []byte, p content) []byte {
	switch p.kind {
	case model.ImageBlock:
		dst = append(dst, `{"image":{"format":`...)
		dst = rawjson.AppendString(dst, strings.TrimPrefix(p.image.MediaType, "image/"))
		return append(appendBase64(append(dst, `,"source":{"bytes":"`...), p.image.Data), `"}}}`...)
	case model.ToolCallBlock:
		dst = rawjson.AppendString(append(dst, `{"toolUse":{"toolUseId":`...), p.id)
		dst = rawjson.AppendString(append(dst, `,"name":`...), p.tool)
		return append(append(append(dst, `,"input":`...), p.args...), `}}`...)
	case model.ThinkingBlock:
		if data := opaqueField(p.meta, "redacted"); data != nil {
			return append(append(append(dst, `{"reasoningContent":{"redactedContent":`...), data...), `}}`...)
		}
		signature := opaqueField(p.meta, "signature")
		if signature == nil {
			return dst // a thought without a signature is refused
		}
		dst = rawjson.AppendString(append(dst, `{"reasoningContent":{"reasoningText":{"text":`...), p.text)
		return append(append(append(dst, `,"signature":`...), signature...), `}}}`...)
	}
	return append(rawjson.AppendString(append(dst, `{"text":`...), p.text), '}')
}

func (converseFormat) results(dst []byte, results []outcome) []byte {
	// Texts come after all results: nothing may stand before them.
	texts := slices.DeleteFunc(slices.Clone(results), func(r outcome) bool { return !r.plain })
	results = append(slices.DeleteFunc(results, func(r outcome) bool { return r.plain }), texts...)
	return append(listed(append(dst, `{"role":"user","content":[`...), results, converseResult), `]}`...)
}

func converseResult(dst []byte, r outcome) []byte {
	parts := make([]content, 0, 2)
	if r.text != "" {
		parts = append(parts, content{kind: model.TextBlock, text: r.text})
	}
	if r.image != nil {
		parts = append(parts, content{kind: model.ImageBlock, image: r.image})
	}
	if r.plain {
		return listed(dst, parts, conversePart)
	}
	dst = rawjson.AppendString(append(dst, `{"toolResult":{"toolUseId":`...), r.id)
	if r.failed {
		dst = append(dst, `,"status":"error"`...)
	}
	return append(listed(append(dst, `,"content":[`...), parts, conversePart), `]}}`...)
}
