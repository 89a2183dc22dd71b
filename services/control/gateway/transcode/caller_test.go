package transcode

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/auth"
)

// overheard is a connection that fails every call and keeps its metadata.
type overheard struct{ metadata.MD }

var errOverheard = errors.New("overheard")

// Invoke implements grpc.ClientConnInterface.
func (o *overheard) Invoke(ctx context.Context, _ string, _, _ any, _ ...grpc.CallOption) error {
	o.MD, _ = metadata.FromOutgoingContext(ctx)
	return errOverheard
}

// NewStream implements grpc.ClientConnInterface.
func (o *overheard) NewStream(
	ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption,
) (grpc.ClientStream, error) {
	o.MD, _ = metadata.FromOutgoingContext(ctx)
	return nil, errOverheard
}

// Whichever way a request takes, its RPC is called with the caller's token, about the tenant that the request is about,
// and on record with the address that it came from. Without the second an operator who names a tenant would get the
// files of another one.
func TestRPCsAreCalledForTheCaller(t *testing.T) {
	who := auth.Principal{Kind: auth.Operator, Tenant: "acme", Source: "192.0.2.7"}
	over := func(method, path string) func(*Handler) {
		return func(h *Handler) {
			r := httptest.NewRequestWithContext(auth.NewContext(t.Context(), who), method, path, nil)
			r.Header.Set("Authorization", "Bearer s")
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
	}
	const session = "/v1/sessions/0198c0de-0000-7000-8000-000000000000"
	for name, call := range map[string]func(*Handler){
		"a message":         over(http.MethodGet, "/v1/agents"),
		"a stream":          over(http.MethodGet, session+"/events"),
		"a file":            over(http.MethodGet, session+"/files/x"),
		"a file's deletion": over(http.MethodDelete, session+"/files/x"),
		"a socket's": func(h *Handler) {
			ctx := auth.NewContext(t.Context(), who)
			err := h.Call(ctx, "s", "listAgents", nil, func([]byte, int64) error { return nil })
			if !errors.Is(err, errOverheard) {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn := &overheard{}
			call(New(conn, t.Context(), slog.New(slog.DiscardHandler)))
			for key, want := range map[string]string{
				"authorization": "Bearer s", auth.TenantHeader: who.Tenant, rpc.SourceKey: who.Source,
			} {
				if got := conn.Get(key); len(got) != 1 || got[0] != want {
					t.Errorf("%s is %q, want %q", key, got, want)
				}
			}
		})
	}
}
