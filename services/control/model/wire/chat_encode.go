package wire

import (
	"strings"

	"github.com/pawl-dev/pawl/services/control/model"
)

// chatFormat is that of OpenAI's Chat Completions.
type chatFormat struct{}

// defaultThoughtField is where servers take a thought back, unless they gave it in another field.
const defaultThoughtField = "reasoning_content"

func (chatFormat) user(dst []byte, parts []content) []byte {
	dst = append(dst, `{"role":"user","content":`...)
	for _, p := range parts {
		if p.image != nil {
			return append(chatParts(dst, parts), '}')
		}
	}
	return append(appendString(dst, texts(parts)), '}') // many servers take nothing but one text
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

func chatParts(dst []byte, parts []content) []byte {
	dst = append(dst, '[')
	for i, p := range parts {
		if i > 0 {
			dst = append(dst, ',')
		}
		if p.image == nil {
			dst = append(appendString(append(dst, `{"type":"text","text":`...), p.text), '}')
			continue
		}
		dst = append(appendDataURL(append(dst, `{"type":"image_url","image_url":{"url":`...), p.image), `}}`...)
	}
	return append(dst, ']')
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
		dst = appendString(dst, texts(said))
	} else {
		dst = append(dst, `null`...)
	}
	if thought != "" {
		dst = append(append(append(dst, `,"`...), field...), `":`...)
		dst = appendString(dst, thought)
	}
	for i, c := range calls {
		if i == 0 {
			dst = append(dst, `,"tool_calls":[`...)
		} else {
			dst = append(dst, ',')
		}
		dst = appendString(append(dst, `{"id":`...), c.id)
		dst = appendString(append(dst, `,"type":"function","function":{"name":`...), c.tool)
		dst = appendString(append(dst, `,"arguments":`...), string(c.args))
		dst = append(dst, '}')
		if extra := member(c.meta, "extra_content"); extra != nil {
			dst = append(append(dst, `,"extra_content":`...), extra...)
		}
		dst = append(dst, '}')
	}
	if len(calls) > 0 {
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

// results is a message for each result, nothing between them. Images follow in a user's message: results take none.
func (f chatFormat) results(dst []byte, results []outcome) []byte {
	begin, n := len(dst), 0
	after, images := followers(results)
	for _, r := range results {
		if r.plain {
			continue
		}
		if n++; n > 1 {
			dst = append(dst, ',')
		}
		dst = appendString(append(dst, `{"role":"tool","tool_call_id":`...), r.id)
		dst = appendString(append(dst, `,"content":`...), resultText(r))
		dst = append(dst, '}')
	}
	if len(after)+len(images) == 0 {
		return dst
	}
	if len(dst) > begin {
		dst = append(dst, ',')
	}
	return f.user(dst, append(after, images...))
}

// resultText is the text of a result whose image follows in another message.
func resultText(r outcome) string {
	if r.image != nil {
		return join(r.text, imageNext)
	}
	return r.text
}

// followers are what stands in a user's message after the results: those that are sent as texts, and images.
func followers(results []outcome) (after, images []content) {
	for _, r := range results {
		if r.plain {
			after = append(after, content{kind: model.TextBlock, text: resultText(r)})
		}
		if r.image != nil {
			images = append(images, content{kind: model.ImageBlock, image: r.image})
		}
	}
	return after, images
}
