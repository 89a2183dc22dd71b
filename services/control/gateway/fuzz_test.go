package gateway

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/internal/rpc"
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

// A message on the socket for calls is what encoding/json makes of it, and has no key twice.
func FuzzCallMessage(f *testing.F) {
	for _, s := range []string{
		`{"id":"x","call":"a","request":{}}`, `{"id":"x","cancel":true}`, `{"ID":"x","call":"a"}`,
		`{"id":"x","call":"a"}{}`,
		`{"id":"x","id":"y","call":"a"}`, `{"id":"x","call":"a","request":` + strings.Repeat("[", 20_000), `null`,
		`{`, "\xff",
		`{"id":null,"call":"a"}`, `{"id":"x","call":"a","cancel":false}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, ok := parseSaid(text)
		if !ok {
			return
		}
		var fields map[string]any
		err := json.Unmarshal(text, &fields)
		if err != nil || fields["id"] != m.ID || m.ID == "" || len(fields) > 4 ||
			m.Call != "" && fields["call"] != m.Call || (fields["cancel"] == true) != m.Cancel {
			t.Errorf("%q gave %+v, %v", text, m, err)
		}
	})
}

// A request passes exactly when its host is a name of the server's and every origin is its own or an allowed one.
func FuzzSource(f *testing.F) {
	for _, s := range [][2]string{
		{"localhost", ""},
		{"127.0.0.1:1", "http://127.0.0.1:1"},
		{"pawl.example.:80", "https://console.example"},
		{"evil.example", ""},
		{"localhost", "null"},
		{"localhost", "http://evil.example"},
		{"[::1]:1", "http://[::1]:1"},
		{"localhost:1", "http://evil@localhost:1"},
		{"localhost@evil.example", ""},
		{"", ""},
	} {
		f.Add(s[0], s[1])
	}
	h := New(Deps{Hosts: []string{"pawl.example"}, Origins: []string{"https://console.example"}})
	f.Fuzz(func(t *testing.T, host, origin string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Host = host
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		if err := h.checkSource(r); err != nil {
			if p, ok := problemOf(err); !ok || p.Status != 400 && p.Status != 403 {
				t.Errorf("%v", err)
			}
			return
		}
		name := strings.ToLower(hostname(host))
		if name != "pawl.example" && !rpc.Loopback(name) {
			t.Errorf("the host %q passes", host)
		}
		own := strings.EqualFold(origin, "http://"+host) || strings.EqualFold(origin, "https://"+host)
		if origin != "" && origin != "https://console.example" && !own && !strings.Contains(origin, host) {
			t.Errorf("the origin %q passes for %q", origin, host)
		}
	})
}
