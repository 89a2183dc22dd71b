package flue

import (
	"encoding/json"
	"strings"
	"testing"
)

// Whatever a message on an agent's socket holds, it is a ping or a prompt as encoding/json reads it, or an error.
func FuzzAgentMessage(f *testing.F) {
	for _, s := range []string{
		`{"version":1,"type":"prompt","requestId":"r","message":"hi","session":"s"}`,
		`{"version":1,"type":"ping"}`, `{"version":1,"type":"ping","requestId":"r"}`, `{"version":1.0,"type":"ping"}`,
		`{"version":1,"type":"prompt","requestId":"r","message":"a","message":"b"}`, `[]`, `null`, "\xff",
		`{"version":1,"type":"prompt","requestId":"r","message":"","session":"task:x"}`, strings.Repeat("[", 20_000),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, wrong := ParseAgentMessage(text)
		if m.RequestID != nil && strings.TrimSpace(*m.RequestID) == "" {
			t.Errorf("%q has a blank request id", text)
		}
		if wrong != nil {
			if wrong.Status != 400 || wrong.Details == "" {
				t.Errorf("%q: %+v", text, wrong)
			}
			return
		}
		var fields map[string]any
		if err := json.Unmarshal(text, &fields); err != nil || fields["version"] != 1.0 {
			t.Fatalf("%q is taken: %v", text, err)
		}
		if m.Ping {
			return
		}
		if fields["message"] != m.Message || fields["requestId"] != *m.RequestID ||
			strings.HasPrefix(m.Session, "task:") || m.Session != "" && fields["session"] != m.Session {
			t.Errorf("%q gave %+v", text, m)
		}
	})
}
