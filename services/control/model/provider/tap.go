package provider

import (
	"bytes"
	"encoding/json"
	"io"
)

// tap reads along with a stream that passes.
type tap struct {
	io.ReadCloser
	exchange *exchange
	line     []byte // that has begun
	failed   bool   // this event is an error
	over     bool   // the error is complete
}

// Read implements io.Reader.
func (t *tap) Read(p []byte) (int, error) {
	if t.over {
		// Anthropic's client reads a stream to its end to describe an error in it. The server may leave it open.
		return 0, io.EOF
	}
	n, err := t.ReadCloser.Read(p)
	for rest := p[:n]; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		t.line = append(t.line, line...)
		if whole {
			t.whole(bytes.TrimSuffix(t.line, []byte("\r")))
			t.line = t.line[:0]
		}
		rest = after
	}
	return n, err
}

// whole looks at one line.
func (t *tap) whole(line []byte) {
	switch {
	case len(line) == 0:
		t.over = t.over || t.failed
	case string(line) == "event: error" || string(line) == "event:error":
		t.failed = true
	case t.exchange.marker != "":
		t.item(line)
	}
}

// item keeps the reasoning item that a line is about, if it is about one.
func (t *tap) item(line []byte) {
	data, ok := bytes.CutPrefix(line, []byte("data:"))
	if !ok || !bytes.Contains(data, []byte(`response.output_item.done`)) {
		return
	}
	var e struct {
		Type string
		Item json.RawMessage
	}
	var item struct {
		ID, Type  string
		Encrypted string `json:"encrypted_content"`
	}
	if json.Unmarshal(data, &e) != nil || e.Type != "response.output_item.done" || json.Unmarshal(e.Item, &item) != nil {
		return
	}
	if item.Type != "reasoning" || item.Encrypted == "" {
		return
	}
	if t.exchange.reasoning == nil {
		t.exchange.reasoning = map[string][]byte{}
	}
	t.exchange.reasoning[item.ID] = bytes.Clone(e.Item)
}
