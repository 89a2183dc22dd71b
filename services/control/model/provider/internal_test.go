package provider

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"testing"
)

func TestOverflowPhrases(t *testing.T) {
	for _, yes := range []string{
		"prompt is too long: 1 tokens > 0 maximum", "Your input exceeds the context window of this model",
		"This model's maximum context length is 8192 tokens. However", "Please reduce the length of the messages",
		"input token count (9) exceeds the maximum number of tokens", "the request exceeds the available context size",
		"input (9 tokens) is longer than the model's context length (8 tokens)", "error code context_length_exceeded", "Prompt too long",
	} {
		if !isOverflow(yes) {
			t.Errorf("%q is not taken for an overflow", yes)
		}
	}
	for _, no := range []string{
		"", "messages: at least one is required", "Throttling error: too many tokens, please wait", "rate limit: too many tokens per minute",
		"max_tokens is too large",
	} {
		if isOverflow(no) {
			t.Errorf("%q is taken for an overflow", no)
		}
	}
}

func TestClamp(t *testing.T) {
	for _, tt := range []struct {
		want string
		has  []string
		got  string
	}{
		{"low", []string{"low", "high"}, "low"},
		{"medium", []string{"low", "high"}, "high"},
		{"xhigh", []string{"low", "high"}, "high"},
		{"none", []string{"low"}, "low"},
		{"unheard", []string{"low"}, "low"},
		{"low", nil, ""},
	} {
		if got := clamp(tt.want, tt.has); got != tt.got {
			t.Errorf("%s of %v is %q, want %q", tt.want, tt.has, got, tt.got)
		}
	}
}

func FuzzErrorBody(f *testing.F) {
	f.Add([]byte(`{"type":"error","error":{"type":"x","message":"m"}}`))
	f.Add([]byte(`{"error":"m","code":502}`))
	f.Add([]byte(`{"error":{"error":{"error":null}},"code":[1]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		m := &languageModel{}
		for _, status := range []int{400, 429, 500} {
			x := &exchange{status: status, header: http.Header{}, body: body}
			if err := m.refused(x, saidIn(body)); err.Error() == "" {
				t.Error("an error without a text")
			}
		}
		if err := m.reported(saidIn(body)); err.Error() == "" {
			t.Error("an error without a text")
		}
	})
}

func FuzzTap(f *testing.F) {
	item := `{"type":"response.output_item.done","item":{"id":"rs_1","type":"reasoning","encrypted_content":"x"}}`
	f.Add([]byte("event: e\ndata: "+item+"\n\ndata: nope\n"), 3)
	f.Add([]byte("data:"+item+"\r\n"), 1)
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		x := &exchange{marker: "m"}
		tp := &tap{ReadCloser: io.NopCloser(bytes.NewReader(stream)), exchange: x}
		var got bytes.Buffer
		if _, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{tp}, make([]byte, max(1, size%64))); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), stream) && !(tp.over && bytes.HasPrefix(stream, got.Bytes())) {
			t.Error("the stream was changed")
		}
		for _, item := range x.reasoning {
			if !json.Valid(item) {
				t.Errorf("kept %q", item)
			}
		}
	})
}

func TestTheTapFindsAnItemWhereverReadsEnd(t *testing.T) {
	stream := []byte("event: x\ndata: " + `{"type":"response.output_item.done","item":{"id":"rs_1","type":"reasoning","encrypted_content":"x"}}` + "\n\n")
	for size := 1; size < len(stream); size++ {
		x := &exchange{marker: "m"}
		tp := &tap{ReadCloser: io.NopCloser(bytes.NewReader(stream)), exchange: x}
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{tp}, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if len(x.reasoning["rs_1"]) == 0 {
			t.Fatalf("not found with reads of %d bytes", size)
		}
	}
}
