package mcp

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/internal/mcpclient"
)

// What is left out of an answer is counted, for those who need all of it.
func TestWhatIsLeftOutOfAnAnswer(t *testing.T) {
	text := func(n int) map[string]any { return map[string]any{"type": "text", "text": strings.Repeat("x", n)} }
	for name, c := range map[string]struct {
		answer map[string]any
		left   int
		note   string // the only one; "" is none
	}{
		"all":      {map[string]any{"content": []any{text(3), text(maxTexts - 3)}}, 0, ""},
		"texts":    {map[string]any{"content": []any{text(maxTexts), text(4)}}, 4, "4 bytes of text"},
		"data":     {map[string]any{"structuredContent": strings.Repeat("x", maxTexts)}, maxTexts + 2, "262146 bytes"},
		"one text": {map[string]any{"content": []any{text(maxTexts + 1)}}, 1, "1 bytes of text"},
	} {
		body, err := json.Marshal(c.answer)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Read(mcpclient.CallTool, mcpclient.Result{JSON: body})
		notes := strings.Join(r.Notes, "\n")
		if err != nil || r.Left != c.left || (notes == "") != (c.note == "") || !strings.Contains(notes, c.note) {
			t.Errorf("%s: %d bytes are left out, %q, %v", name, r.Left, notes, err)
		}
	}
}
