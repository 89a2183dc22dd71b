package wire

import (
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/internal/rawjson"
	"github.com/pawl-dev/pawl/services/control/model"
)

// chatFormat is that of OpenAI's Chat Completions.
type chatFormat struct{}

// defaultThoughtField is where servers take a thought back, unless they gave it in another field.
const defaultThoughtField = "reasoning_content"

func (chatFormat) user(dst []byte, parts []content) []byte {
	dst = append(dst, `{"role":"user","content":`...)
	if slices.ContainsFunc(parts, func(p content) bool { return p.image != nil }) {
		return append(listed(append(dst, '['), parts, chatPart), `]}`...)
	}
	return append(rawjson.AppendString(dst, texts(parts)), '}') // many servers take nothing but one text
}

// texts are the texts of the parts, joined.
func texts(parts []content) string {
	if len(parts) == 1 {
		return parts[0].text
	}
	var all []string
	for _, p := range parts {
		if p.kind == model.TextBlock {
			all = append(all, p.text)
		}
	}
	return strings.Join(all, "\n")
}

func chatPart(dst []byte, p content) []byte {
	if p.image == nil {
		return append(rawjson.AppendString(append(dst, `{"type":"text","text":`...), p.text), '}')
	}
	return append(appendDataURL(append(dst, `{"type":"image_url","image_url":{"url":`...), p.image), `}}`...)
}

func appendDataURL(dst []byte, i *model.Image) []byte {
	dst = append(append(append(dst, `"data:`...), i.MediaType...), `;base64,`...)
	return append(appendBase64(dst, i.Data), '"')
}

func (chatFormat) assistant(dst []byte, parts []content) []byte {
	var said, calls []content
	thought, field := "", defaultThoughtField
	for _, p := range parts {
		switch p.kind {
		case model.TextBlock:
			said = append(said, p)
		case model.ToolCallBlock:
			calls = append(calls, p)
		case model.ThinkingBlock:
			thought = join(thought, p.text)
			if f := str(member(p.meta, "field")); f == "reasoning" || f == "thinking" {
				field = f
			}
		}
	}
	dst = append(dst, `{"role":"assistant","content":`...)
	if len(said) > 0 {
		dst = rawjson.AppendString(dst, texts(said))
	} else {
		dst = append(dst, `null`...)
	}
	if thought != "" {
		dst = append(append(append(dst, `,"`...), field...), `":`...)
		dst = rawjson.AppendString(dst, thought)
	}
	if len(calls) > 0 {
		dst = append(listed(append(dst, `,"tool_calls":[`...), calls, chatCall), ']')
	}
	return append(dst, '}')
}

func chatCall(dst []byte, c content) []byte {
	dst = rawjson.AppendString(append(dst, `{"id":`...), c.id)
	dst = rawjson.AppendString(append(dst, `,"type":"function","function":{"name":`...), c.tool)
	dst = append(rawjson.AppendString(append(dst, `,"arguments":`...), string(c.args)), '}')
	if extra := member(c.meta, "extra_content"); extra != nil {
		dst = append(append(dst, `,"extra_content":`...), extra...)
	}
	return append(dst, '}')
}

// results is a message for each result, nothing between them.
func (f chatFormat) results(dst []byte, results []outcome) []byte {
	return separate(dst, results, f, func(dst []byte, r outcome) []byte {
		dst = rawjson.AppendString(append(dst, `{"role":"tool","tool_call_id":`...), r.id)
		return append(rawjson.AppendString(append(dst, `,"content":`...), resultText(r)), '}')
	})
}

// separate appends each result as an element of its own. Images follow in a user's message, since results take none,
// and so do results that are sent as texts.
func separate(dst []byte, results []outcome, f format, one func(dst []byte, r outcome) []byte) []byte {
	begin := len(dst)
	var after, images []content
	dst = listed(dst, results, func(dst []byte, r outcome) []byte {
		if r.image != nil {
			images = append(images, content{kind: model.ImageBlock, image: r.image})
		}
		if r.plain {
			after = append(after, content{kind: model.TextBlock, text: resultText(r)})
			return dst
		}
		return one(dst, r)
	})
	if after = append(after, images...); len(after) == 0 {
		return dst
	}
	if len(dst) > begin {
		dst = append(dst, ',')
	}
	return f.user(dst, after)
}

// resultText is the text of a result whose image follows in another message.
func resultText(r outcome) string {
	if r.image != nil {
		return join(r.text, imageNext)
	}
	return r.text
}
