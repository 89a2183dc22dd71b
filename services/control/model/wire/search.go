package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/pawl-dev/pawl/services/control/model"
)

// A provider that searches itself says within its answer what it has asked and found. That becomes a thought: its text
// is what other models, and clients, are told, and its Opaque is what the same model gets back as it came.

// hostedTool is the provider's own search as an element of a list of tools; nil where the API has none.
func hostedTool(api model.API) []byte {
	switch api {
	case model.APIAnthropic:
		return []byte(`{"type":"web_search_20250305","name":"web_search","max_uses":8}`)
	case model.APIResponses:
		return []byte(`{"type":"web_search"}`)
	case model.APIGemini:
		return []byte(`{"googleSearch":{}}`)
	}
	return nil
}

// Bounds of what is told of a search.
const (
	maxSources = 10
	maxSource  = 300 // bytes
	searchKey  = -3  // of a thought that is a search
)

// source is a page that was found.
type source struct{ title, url string }

// searched is a search in words.
func searched(queries []string, found []source) string {
	var b strings.Builder
	b.WriteString("[searched the web")
	for i, q := range queries {
		if i == maxSources {
			break
		}
		b.WriteString([]string{", ", " for "}[min(max(1-i, 0), 1)] + strconv.Quote(cutText(q)))
	}
	for i, s := range found {
		if i == maxSources {
			fmt.Fprintf(&b, ", and %d more", len(found)-i)
			break
		}
		b.WriteString([]string{", ", "; found "}[min(max(1-i, 0), 1)] + strconv.Quote(cutText(s.title)) + " at " +
			cutText(s.url))
	}
	return b.String() + "]"
}

func cutText(s string) string {
	if len(s) > maxSource {
		return strings.ToValidUTF8(s[:maxSource], "") + "…"
	}
	return s
}

// search passes a search on. meta is nil where the model gets nothing of it back.
func (d *Decoder) search(text string, meta json.RawMessage) {
	d.close()
	d.plain(model.ThinkingBlock, searchKey, text)
	d.meta = meta
	d.close()
}

// asked is what Anthropic's model asks a tool of the provider, until the result has come.
type asked struct {
	id, name string
	args     []byte
	chars    joiner
}

// input is what the tool is asked.
func (a *asked) input() []byte {
	a.args = a.chars.flush(a.args)
	return object(a.args)
}

// block is what is asked as Anthropic writes it, nil when it has no form.
func (a *asked) block() []byte {
	use, err := json.Marshal(map[string]any{
		"type": "server_tool_use", "id": a.id, "name": a.name, "input": json.RawMessage(a.input()),
	})
	if err != nil {
		return nil
	}
	return use
}

// hostedStart begins a tool of the provider.
func (d *Decoder) hostedStart(index int, block []byte) {
	if d.hosted == nil {
		d.hosted = map[int]*asked{}
	}
	a := &asked{id: str(member(block, "id")), name: str(member(block, "name"))}
	if input := member(block, "input"); isObject(input) && string(bytes.TrimSpace(input)) != "{}" {
		a.args = bytes.Clone(input)
	}
	d.hosted[index] = a
	d.unknown(block)
}

// hostedDone takes the result of a tool of the provider. What was asked and what came are kept together: the provider
// takes neither without the other.
func (d *Decoder) hostedDone(result []byte) {
	id := str(member(result, "tool_use_id"))
	for index, a := range d.hosted {
		if a.id != id {
			continue
		}
		delete(d.hosted, index)
		use := a.block()
		if use == nil {
			return
		}
		var found []source
		elements(member(result, "content"), func(v []byte) {
			found = append(found, source{str(member(v, "title")), str(member(v, "url"))})
		})
		var queries []string
		if q := str(member(a.input(), "query")); q != "" {
			queries = []string{q}
		}
		meta := append(append(append([]byte(`{"blocks":[`), use...), ','), result...)
		d.search(searched(queries, found), valid(append(meta, `]}`...)))
		return
	}
	d.unknown(result)
}

// cite adds a citation to the text that comes.
func (d *Decoder) cite(index int, v []byte) {
	if !isObject(v) {
		return
	}
	d.begin(model.TextBlock, index)
	begun, ok := bytes.CutSuffix(d.meta, []byte("]}"))
	if !ok {
		begun = []byte(`{"citations":[`)
	} else {
		begun = append(begun, ',')
	}
	if meta := valid(append(append(bytes.Clone(begun), v...), "]}"...)); meta != nil {
		d.meta = meta
	}
}

// searchItem takes a search of a Responses answer.
func (d *Decoder) searchItem(v []byte) {
	action := member(v, "action")
	var queries []string
	if q := str(member(action, "query")); q != "" {
		queries = []string{q}
	}
	var found []source
	elements(member(action, "sources"), func(s []byte) {
		found = append(found, source{str(member(s, "title")), str(member(s, "url"))})
	})
	if url := str(member(action, "url")); url != "" {
		found = append(found, source{url: url})
	}
	if kind := str(member(action, "type")); kind == "search" || kind == "" {
		d.usage.Searches++
	}
	d.search(searched(queries, found), valid(append(append([]byte(`{"item":`), v...), '}')))
}

// grounded notes on what a Gemini's answer stands. It comes with the end of the answer.
func (d *Decoder) grounded(v []byte) {
	var queries []string
	elements(member(v, "webSearchQueries"), func(q []byte) { queries = append(queries, str(q)) })
	var found []source
	elements(member(v, "groundingChunks"), func(c []byte) {
		if web := member(c, "web"); isObject(web) {
			found = append(found, source{str(member(web, "title")), str(member(web, "uri"))})
		}
	})
	if len(queries)+len(found) > 0 {
		d.usage.Searches = max(d.usage.Searches, int64(len(queries)))
		d.found = searched(queries, found)
	}
}

// tellFound passes on what an answer stands on.
func (d *Decoder) tellFound() {
	if d.found != "" {
		d.search(d.found, nil)
	}
}
