package transcode

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/pawl-dev/pawl/internal/errs"
)

// Whatever a request holds, it is that of one route, which reads from its path what makes the same path again, or an
// error with a reason.
func FuzzRequest(f *testing.F) {
	routes := Routes()
	for _, r := range routes {
		f.Add(r.Method, r.Path, "pageSize=1&key.agent=a", `{"message":"hi"}`, "5")
	}
	f.Add("GET", "/v1/agents/%ff", "", "", "")
	f.Add("GET", "/v1/sessions", "pageToken=%ff", "", "")
	f.Add("GET", "/v1/agents/a%2Fb", "a=%zz", `{"a":1,"a":2}`, "-1")
	f.Add("POST", "/v1/agents/..%2F..//instances/%00:prompt", "", strings.Repeat("[", 1000), "9223372036854775808")
	f.Fuzz(func(t *testing.T, method, path, query, body, last string) {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		req.URL.RawQuery = query
		req.Header.Set("Last-Event-ID", last)
		r, vars, allow := find(routes, method, path)
		if r == nil {
			if slices.Contains(allow, method) {
				t.Errorf("%s %q is not allowed, but %v are", method, path, allow)
			}
			return
		}
		for field, value := range vars {
			if value == "" || field == "" {
				t.Errorf("%q gave %v", path, vars)
			}
		}
		if strings.Count(path, "/") != strings.Count(r.Path, "/") {
			t.Errorf("%q is taken for %s", path, r.Path)
		}
		in, err := r.decode(req, vars, []byte(body))
		if err != nil {
			if e, ok := errs.Public(err); !ok || e.Code() != errs.InvalidArgument || e.Reason() == "" {
				t.Errorf("%v", err)
			}
			return
		}
		if _, err := proto.Marshal(in); err != nil {
			t.Errorf("%s %q?%s %q was decoded and cannot be sent: %v", method, path, query, body, err)
		}
	})
}
