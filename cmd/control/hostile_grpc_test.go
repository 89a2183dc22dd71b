package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
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

// caller is a connection whose calls send the beginning of a message, and the rest when they are told to.
type caller struct {
	*victim
	*flood
	in    *http2.Framer
	sizes map[uint32]int // of messages of calls that have no answer, by stream
	sent  map[uint32]int
	// refusals are the answers of calls that were refused before they could send their message.
	refusals []string
	seen     bool // the server has answered a ping
}

func (v *victim) caller() *caller {
	v.Helper()
	f, conn := v.flood(v.here.GRPC)
	c := &caller{
		victim: v, flood: f, in: http2.NewFramer(io.Discard, conn), sizes: map[uint32]int{}, sent: map[uint32]int{},
	}
	c.in.ReadMetaHeaders = hpack.NewDecoder(4<<10, nil)
	if err := conn.SetDeadline(time.Now().Add(25 * time.Second)); err != nil { // less than a message may take
		v.Fatal(err)
	}
	return c
}

// begin begins a call whose message has so many bytes. None of them are sent.
func (c *caller) begin(method, token string, size int) {
	c.Helper()
	head := c.headOf(method, token)
	err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: c.next, BlockFragment: head, EndHeaders: true})
	length := binary.BigEndian.AppendUint32([]byte{0}, uint32(size)) //nolint:gosec // of a test
	if err = errors.Join(err, c.WriteData(c.next, false, length), c.out.Flush()); err != nil {
		c.Fatal(err)
	}
	c.sizes[c.next] = size
	c.next += 2
}

// send sends bytes of a call's message, or what is left of it if that is less.
func (c *caller) send(stream uint32, n int) {
	c.Helper()
	zeros := make([]byte, 16<<10)
	for n = min(n, c.sizes[stream]-c.sent[stream]); n > 0; {
		b := zeros[:min(n, len(zeros))]
		if err := c.WriteData(stream, false, b); err != nil {
			c.Fatal(err)
		}
		n -= len(b)
		c.sent[stream] += len(b)
	}
}

// read reads until done says so. A call that gets room for its message sends a piece of it, and
// not its end.
func (c *caller) read(piece int, done func() bool) {
	c.Helper()
	for !done() {
		frame, err := c.in.ReadFrame()
		if err != nil {
			c.Fatal(err)
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if window, ok := f.Value(http2.SettingInitialWindowSize); ok && window > 256<<10 {
				c.Errorf("a call may send %d bytes that nobody reads", window)
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				err = c.WritePing(true, f.Data)
			}
			c.seen = c.seen || f.IsAck()
		case *http2.WindowUpdateFrame:
			if _, open := c.sizes[f.StreamID]; open && c.sent[f.StreamID] == 0 {
				c.send(f.StreamID, min(piece, c.sizes[f.StreamID]-1))
			}
		case *http2.MetaHeadersFrame:
			if !f.StreamEnded() {
				continue
			}
			var answer string
			for _, field := range f.Fields {
				answer += field.Name + ": " + field.Value + "\n"
			}
			if c.sent[f.StreamID] == 0 {
				c.refusals = append(c.refusals, answer)
			}
			delete(c.sizes, f.StreamID)
			delete(c.sent, f.StreamID)
		}
		if err := errors.Join(err, c.out.Flush()); err != nil {
			c.Fatal(err)
		}
	}
}

// arrived returns when the server has all that was sent.
func (c *caller) arrived() {
	c.Helper()
	c.seen = false
	if err := errors.Join(c.WritePing(false, [8]byte{}), c.out.Flush()); err != nil {
		c.Fatal(err)
	}
	c.read(0, func() bool { return c.seen })
}

// However many calls with large messages a client begins, they hold a bounded amount of memory. Whoever has another
// token does not notice.
func TestMessagesUnderWay(t *testing.T) {
	v := startVictim(t)
	other, submit := v.another(), pawlv1.SubmissionService_Submit_FullMethodName
	const n, piece, most, conns = 100, 2 << 20, 192 << 20, 3
	before := live()
	var callers []*caller
	refused := 0
	for range conns {
		c := v.caller()
		callers = append(callers, c)
		for i := range n {
			c.begin(submit, v.token, (1+i%32)<<20)
		}
		c.read(piece, func() bool { return len(c.refusals)+len(c.sent) == n })
		c.arrived()
		refused += len(c.refusals)
		for _, answer := range c.refusals {
			if !strings.Contains(answer, "grpc-status: 8\n") || !strings.Contains(answer, "under way") {
				t.Fatalf("another answer than that there are too many: %s", answer)
			}
		}
	}
	if grown := live() - before; grown > most {
		t.Errorf("%d bytes are held", grown)
	}
	if refused < conns*n-64 || refused == conns*n { // the others have a MiB each, or more
		t.Errorf("%d of %d calls were refused", refused, conns*n)
	}
	v.works()
	mine := v.token
	v.token = other
	_, err := pawlv1.NewSubmissionServiceClient(v.client()).Submit(t.Context(), &pawlv1.SubmitRequest{
		Key:     &pawlv1.SessionKey{Agent: "shell", Instance: "i", Session: "default"},
		Message: "say: hi" + strings.Repeat(" ", 10<<20),
	})
	if err != nil {
		t.Errorf("another client: %v", err)
	}
	for _, c := range callers { // whose messages arrive, and are answered
		for stream := range c.sent {
			c.send(stream, 32<<20)
		}
		if err := c.out.Flush(); err != nil {
			t.Fatal(err)
		}
		c.read(piece, func() bool { return len(c.sizes) == 0 })
	}
	last := v.caller()
	last.begin(submit, mine, 32<<20)
	last.begin(submit, mine, 32<<20)
	last.read(piece, func() bool { return len(last.refusals)+len(last.sent) == 2 })
	if len(last.refusals) > 0 {
		t.Errorf("when all have been answered: %s", last.refusals)
	}
}

// What is too long is refused before it is sent, in particular what strangers send to methods that need no token.
func TestLongMessagesAreNotAwaited(t *testing.T) {
	v := startVictim(t)
	c := v.caller()
	c.begin("/grpc.health.v1.Health/Check", "", 8<<10)
	c.begin("/grpc.health.v1.Health/Watch", "", 8<<10)
	c.begin("/pawl.v1.AgentService/ListAgents", v.token, 1<<20)
	c.read(1, func() bool { return len(c.sizes) == 0 || len(c.sent) > 0 })
	if len(c.refusals) != 3 || strings.Count(strings.Join(c.refusals, ""), "grpc-status: 8\n") != 3 {
		t.Errorf("%v", c.refusals)
	}
}
