package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"sync"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/gateway/socket"
	"github.com/pawl-dev/pawl/services/control/gateway/sse"
)

const (
	// watchPath is where a client has one socket for everything.
	watchPath = "/v1/watch"
	// maxCalls is how many calls one socket may have open at once.
	maxCalls = 256
)

var (
	errFrame = errs.New(errs.InvalidArgument, "FRAME_INVALID", `a message is an object {"id", "call", "request"}, or `+
		`{"id", "cancel": true}; id is text of at most 128 bytes`)
	errCallID = errs.New(errs.AlreadyExists, "CALL_ID_IN_USE", "a call with this id is open")
	errCalls  = errs.New(errs.ResourceExhausted, "TOO_MANY_CALLS", "this socket has as many calls open as it may")
	errBinary = errs.New(errs.InvalidArgument, "BINARY", "messages are text")
	// errCancelled ends a call whose caller does not want it any more.
	errCancelled = errs.New(errs.Canceled, "CANCELED", "the caller cancelled the call")
)

// callSocket is a socket on which operations of the API are called, side by side, by their OpenAPI operationId:
//
//	client  {"id", "call", "request"}      {"id", "cancel": true}
//	server  {"id", "message"}* then one of {"id", "end": true} and {"id", "error"}      {"heartbeat": true}
//
// A message is what the operation answers: of a stream, such as watchSession or prompt, one after the other. The last
// frame of a call that streams events has their cursor.
type callSocket struct {
	*socket.Session
	h      *Handler
	secret string

	mu   sync.Mutex                         // guards open
	open map[string]context.CancelCauseFunc // nil until the first call
}

// said is a message of a client.
type said struct {
	ID, Call string
	Request  json.RawMessage
	Cancel   bool
}

// parseSaid reads a message. Keys are exact and stand there once. One that is not valid has its id, if that came first.
func parseSaid(text []byte) (m said, ok bool) {
	in := json.NewDecoder(bytes.NewReader(text))
	if open, err := in.Token(); err != nil || open != json.Delim('{') {
		return m, false
	}
	into := map[any]any{"id": &m.ID, "call": &m.Call, "request": &m.Request, "cancel": &m.Cancel}
	for in.More() {
		key, err := in.Token()
		if err != nil || into[key] == nil || in.Decode(into[key]) != nil {
			return m, false
		}
		delete(into, key)
	}
	if _, err := in.Token(); err != nil {
		return m, false
	}
	_, err := in.Token()
	return m, err == io.EOF && ident.CheckText("an id", m.ID, 128) == nil && (m.Call == "") == m.Cancel
}

// serveCalls answers GET /v1/watch.
func (h *Handler) serveCalls(w http.ResponseWriter, r *http.Request, secret string) {
	h.upgrade(w, r, secret, maxCalls, func(ctx context.Context, session *socket.Session) {
		s := &callSocket{Session: session, h: h, secret: secret}
		defer await.Repeat(sse.HeartbeatEvery, s.beat)()
		s.Run(ctx, func(text []byte) error { return s.message(ctx, text) }, closing, func() []byte {
			return s.refusal(ctx, said{}, errBinary, 0)
		})
	})
}

// beat says that the socket lives, while it does.
func (s *callSocket) beat() bool {
	return contain.Do(func() error { return s.Write([]byte(`{"heartbeat":true}`)) }) == nil
}

// message does what a message says. It fails when the reader has left.
func (s *callSocket) message(ctx context.Context, text []byte) error {
	m, ok := parseSaid(text)
	if !ok {
		return s.Write(s.refusal(ctx, m, errFrame, 0))
	}
	if m.Cancel {
		s.mu.Lock()
		defer s.mu.Unlock()
		if cancel := s.open[m.ID]; cancel != nil { // one that has ended needs none
			cancel(errCancelled)
		}
		return nil
	}
	if ctx, ok = s.begin(ctx, m.ID); !ok {
		return s.Write(s.refusal(ctx, m, errCallID, 0))
	}
	cursor := int64(0)
	begun := s.Go(func() error { return s.call(ctx, m, &cursor) }, func(err error) {
		s.close(m.ID)
		_ = s.Write(s.refusal(ctx, m, err, cursor)) // the reader may have left
	})
	if !begun {
		s.close(m.ID)
		return s.Write(s.refusal(ctx, m, errCalls, 0))
	}
	return nil
}

// begin takes an id for a call, and returns the call's context; ok is false when a call has the id.
func (s *callSocket) begin(ctx context.Context, id string) (_ context.Context, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[id] != nil {
		return nil, false
	}
	if s.open == nil {
		s.open = map[string]context.CancelCauseFunc{}
	}
	ctx, s.open[id] = context.WithCancelCause(ctx)
	return ctx, true
}

// close frees the id of a call.
func (s *callSocket) close(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel := s.open[id]; cancel != nil {
		cancel(nil)
	}
	delete(s.open, id)
}

// call runs a call to its end.
func (s *callSocket) call(ctx context.Context, m said, cursor *int64) error {
	id := quote(m.ID)
	err := s.h.API.Call(ctx, s.secret, m.Call, m.Request, func(message []byte, seq int64) error {
		*cursor = max(*cursor, seq)
		frame := make([]byte, 0, len(message)+len(id)+24)
		frame = append(append(append(frame, `{"id":`...), id...), `,"message":`...)
		if s.Write(append(append(frame, message...), '}')) != nil {
			return socket.ErrGone
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.close(m.ID)
	return s.Write([]byte(`{"id":` + id + `,"end":true` + cursorField(*cursor) + `}`))
}

// refusal is the frame with which a call fails.
func (s *callSocket) refusal(ctx context.Context, m said, err error, cursor int64) []byte {
	body, failed := json.Marshal(s.h.API.Problem(ctx, err, ident.New(), "path", watchPath, "call", m.Call))
	if failed != nil {
		body = []byte("{}") // texts always encode
	}
	return []byte(`{"id":` + quote(m.ID) + `,"error":` + string(body) + cursorField(cursor) + `}`)
}

func cursorField(seq int64) string {
	if seq == 0 {
		return ""
	}
	return `,"cursor":"` + strconv.FormatInt(seq, 10) + `"`
}

func quote(s string) string {
	b, _ := json.Marshal(s) // text always encodes
	return string(b)
}
