package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
)

func (v *victim) client(more ...grpc.DialOption) *grpc.ClientConn {
	v.Helper()
	conn, err := grpc.NewClient(v.here.GRPC, append(append(rpc.DialOptions(), rpc.Security(nil),
		grpc.WithPerRPCCredentials(rpc.Token{Secret: rpc.Static(v.token), Plaintext: true})), more...)...)
	if err != nil {
		v.Fatal(err)
	}
	v.Cleanup(func() { _ = conn.Close() })
	return conn
}

// A call that a page of a browser has made, through a proxy perhaps, is refused unless its origin is allowed.
func TestForeignPagesOverGRPC(t *testing.T) {
	v := startVictim(t, "--origin", "https://console.example")
	agents := pawlv1.NewAgentServiceClient(v.client())
	for origin, want := range map[string]error{"https://evil.example": rpc.ErrOrigin, "https://console.example": nil} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "origin", origin)
		if _, err := agents.ListAgents(ctx, &pawlv1.ListAgentsRequest{}); !errors.Is(rpc.FromStatus(err), want) {
			t.Errorf("%s: %v", origin, err)
		}
	}
}

// However many streams clients have open over HTTP, there is room for one more request.
func TestManyStreamsOverHTTP(t *testing.T) {
	v := startVictim(t)
	admitted, err := pawlv1.NewSubmissionServiceClient(v.client()).Submit(t.Context(), &pawlv1.SubmitRequest{
		Key: &pawlv1.SessionKey{Agent: "shell", Instance: "i", Session: "default"}, Message: "say: hi",
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		conn, _, err := websocket.Dial(t.Context(), v.here.HTTP+"/v1/watch", &websocket.DialOptions{
			HTTPHeader: http.Header{"Authorization": {"Bearer " + v.token}},
		})
		if err != nil {
			t.Fatal(err)
		}
		conn.SetReadLimit(-1)
		t.Cleanup(func() { _ = conn.CloseNow() })
		for i := range 250 {
			ask := fmt.Sprintf(`{"id":"%d","call":"watchSession","request":{"sessionId":%q}}`, i,
				admitted.GetSubmission().GetSessionId())
			if err := conn.Write(t.Context(), websocket.MessageText, []byte(ask)); err != nil {
				t.Fatal(err)
			}
		}
		for seen := map[string]bool{}; len(seen) < 250; { // each of them has begun
			_, text, err := conn.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			id, _, _ := strings.Cut(strings.TrimPrefix(string(text), `{"id":"`), `"`)
			if seen[id] = true; strings.Contains(string(text), `"error"`) {
				t.Fatalf("%s", text)
			}
		}
	}
	v.works()
}

// A compressed message is refused before it is unpacked.
func TestBombOverGRPC(t *testing.T) {
	v := startVictim(t)
	before := live()
	//lint:ignore SA1019 the other way teaches the whole process to unpack, the server too
	compressed := grpc.WithCompressor(grpc.NewGZIPCompressor())
	_, err := pawlv1.NewSubmissionServiceClient(v.client(compressed)).Submit(t.Context(), &pawlv1.SubmitRequest{
		Key:     &pawlv1.SessionKey{Agent: "shell", Instance: "i", Session: "default"},
		Message: strings.Repeat("x", 30<<20),
	})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("%v", err)
	}
	if grown := live() - before; grown > 16<<20 {
		t.Errorf("%d bytes are left", grown)
	}
}
