package gateway

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func FuzzAgentPath(f *testing.F) {
	for _, s := range []string{
		"/agents/a/b", "/agents/a/b%2Fc", "/agents/a/%zz", "/agents/a/", "/agents//b",
		"//agents/a/b", "/agents/a/b/c", "", "/agents/%20/%00",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		to, vars := find(path)
		if to == nil || to.pattern != "/agents/{agent}/{instance}" {
			return
		}
		if strings.Count(path, "/") != 3 || len(vars) != 2 || vars[0] == "" || vars[1] == "" {
			t.Errorf("%q gave %q", path, vars)
		}
	})
}

// Whatever a body holds, it is a prompt or an error of the protocol, and what is a prompt is what encoding/json makes
// of it.
func FuzzPrompt(f *testing.F) {
	for _, s := range []string{
		`{"message":"hi"}`, `{"message":"hi","session":"s"}`, `{"Message":"x"}`, `null`, `[]`,
		`{`, ``, ` `, "\xff", "{\"message\":\"\xff\"}", `{"message":"\ud800"}`,
	} {
		f.Add(s, "application/json")
		f.Add(s, "")
	}
	f.Fuzz(func(t *testing.T, body, kind string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		r.Header.Set("Content-Type", kind)
		got, err := readBody(httptest.NewRecorder(), r)
		if err != nil {
			if p, ok := problemOf(err); !ok || p.Status < 400 || p.Status > 415 {
				t.Errorf("%v", err)
			}
			return
		}
		message, session, err := parsePrompt(got)
		if err != nil {
			if p, ok := problemOf(err); !ok || p.Status != 400 {
				t.Errorf("%v", err)
			}
			return
		}
		var m map[string]any
		if err := json.Unmarshal(got, &m); err != nil || m["message"] != message || session != "" &&
			m["session"] != session {
			t.Errorf("%q gave %q and %q", got, message, session)
		}
	})
}
