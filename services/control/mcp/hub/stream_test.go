package hub_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func refuseWith(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", status) }
}

// A server has taken a call, and its stream breaks. What it says to whoever wants to read on is no refusal of the call:
// nobody knows its outcome, and it is not made again.
func TestAStreamThatCannotBeReadOn(t *testing.T) {
	for what, refuse := range map[string]http.HandlerFunc{
		"no session":  refuseWith(http.StatusNotFound),
		"too many":    refuseWith(http.StatusTooManyRequests),
		"not allowed": refuseWith(http.StatusMethodNotAllowed),
		"an error of the protocol": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"jsonrpc": "2.0", "id": 1, "error": {"code": -32600, "message": "no event"}}`)
		},
	} {
		r := newRig(t)
		r.add("act", says("done"))
		set, _ := r.offer("t", r.definition(plain))
		r.answer(func(w http.ResponseWriter, req *http.Request) {
			if req.Header.Get("Last-Event-ID") != "" {
				refuse(w, req)
				return
			}
			if req.Method != http.MethodPost {
				http.Error(w, "no", http.StatusMethodNotAllowed)
				return
			}
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "id: 1\nretry: 1\ndata: \n\n")
		})
		res := call(t, set, "mcp__srv__act", `{}`)
		if n := r.count("tools/call"); n != 1 || !strings.Contains(res.Text, "The outcome of this call is unknown") {
			t.Errorf("%s: %d calls, %q", what, n, res.Text)
		}
	}
}
