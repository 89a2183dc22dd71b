package wire

import (
	"slices"

	"github.com/pawl-dev/pawl/internal/rawjson"
	"github.com/pawl-dev/pawl/services/control/model"
)

// geminiFormat is that of Google's generateContent.
type geminiFormat struct {
	// signed says that the model refuses a call without a signature. The first call of a turn that has none, because
	// another model made it, gets unsigned in its place.
	signed bool
}

// unsigned is what Google's documentation gives for calls that Gemini did not make itself.
const unsigned = "skip_thought_signature_validator"

func (geminiFormat) user(dst []byte, parts []content) []byte {
	return append(listed(append(dst, `{"role":"user","parts":[`...), parts, geminiPart), `]}`...)
}

func (f geminiFormat) assistant(dst []byte, parts []content) []byte {
	first := slices.IndexFunc(parts, func(p content) bool { return p.kind == model.ToolCallBlock })
	if f.signed && first >= 0 && opaqueField(parts[first].meta, "signature") == nil {
		parts = slices.Clone(parts)
		parts[first].meta = []byte(`{"signature":"` + unsigned + `"}`)
	}
	return append(listed(append(dst, `{"role":"model","parts":[`...), parts, geminiPart), `]}`...)
}

func geminiPart(dst []byte, p content) []byte {
	signature := opaqueField(p.meta, "signature")
	switch p.kind {
	case model.ImageBlock:
		dst = rawjson.AppendString(append(dst, `{"inlineData":{"mimeType":`...), p.image.MediaType)
		return append(appendBase64(append(dst, `,"data":"`...), p.image.Data), `"}}`...)
	case model.ToolCallBlock:
		dst = rawjson.AppendString(append(dst, `{"functionCall":{"name":`...), p.tool)
		if p.given != "" {
			dst = rawjson.AppendString(append(dst, `,"id":`...), p.given)
		}
		dst = append(append(append(dst, `,"args":`...), p.args...), '}')
	case model.ThinkingBlock:
		if part := member(p.meta, "part"); part != nil {
			return append(dst, part...)
		}
		if signature == nil {
			return dst // a summary of a thought tells the model nothing
		}
		dst = append(rawjson.AppendString(append(dst, `{"text":`...), p.text), `,"thought":true`...)
	default:
		dst = rawjson.AppendString(append(dst, `{"text":`...), p.text)
	}
	if signature != nil {
		dst = append(append(dst, `,"thoughtSignature":`...), signature...)
	}
	return append(dst, '}')
}

// results is one turn with as many results as there were calls, in their order, by which Gemini tells apart those to
// which it has given no ids.
// Images and results that are sent as texts follow in a turn of their own.
func (f geminiFormat) results(dst []byte, results []outcome) []byte {
	var after, images []content
	begin := len(dst)
	dst = append(dst, `{"role":"user","parts":[`...)
	some := len(dst)
	dst = listed(dst, results, func(dst []byte, r outcome) []byte {
		if r.image != nil {
			images = append(images, content{kind: model.ImageBlock, image: r.image})
		}
		if r.plain {
			after = append(after, content{kind: model.TextBlock, text: resultText(r)})
			return dst
		}
		dst = rawjson.AppendString(append(dst, `{"functionResponse":{"name":`...), r.tool)
		if r.given != "" {
			dst = rawjson.AppendString(append(dst, `,"id":`...), r.given)
		}
		said := `,"response":{"output":`
		if r.failed {
			said = `,"response":{"error":`
		}
		return append(rawjson.AppendString(append(dst, said...), resultText(r)), `}}}`...)
	})
	if none := len(dst) == some; none {
		dst = dst[:begin]
	} else {
		dst = append(dst, `]}`...)
	}
	if after = append(after, images...); len(after) == 0 {
		return dst
	}
	if len(dst) > begin {
		dst = append(dst, ',')
	}
	return f.user(dst, after)
}
