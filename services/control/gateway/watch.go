package gateway

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
)

// Failures of a watch over HTTP.
var (
	errCursor = errs.New(errs.InvalidArgument, "CURSOR", "a cursor, in the header Last-Event-ID or the parameter "+
		"after, is the id of an event")
	errChildren = errs.New(errs.InvalidArgument, "CHILDREN", "the parameter children, which selects events of "+
		"sub-agents, is none, entries or all")
	errMethod = errs.New(errs.Unimplemented, "METHOD", "events are read with GET")
)

// eventsPath reads /v1/sessions/{session_id}/events.
func eventsPath(path string) (id string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/v1/sessions/")
	if !ok {
		return "", false
	}
	id, ok = strings.CutSuffix(rest, "/events")
	return id, ok && id != "" && !strings.Contains(id, "/")
}

// cursorOf is the position that a reader has seen. What a client of server-sent events repeats by itself wins.
func cursorOf(r *http.Request) (int64, error) {
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		text = r.URL.Query().Get("after")
	}
	if text == "" {
		return 0, nil
	}
	seq, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seq < 0 {
		return 0, errCursor
	}
	return seq, nil
}

// childEvents are the values of the parameter children.
var childEvents = map[string]pawlv1.ChildEvents{
	"": pawlv1.ChildEvents_CHILD_EVENTS_UNSPECIFIED, "none": pawlv1.ChildEvents_CHILD_EVENTS_NONE,
	"entries": pawlv1.ChildEvents_CHILD_EVENTS_ENTRIES, "all": pawlv1.ChildEvents_CHILD_EVENTS_ALL,
}

// watchOf is what a request asks to watch.
func watchOf(r *http.Request, sessionID string) (*pawlv1.WatchSessionRequest, error) {
	after, err := cursorOf(r)
	if err != nil {
		return nil, err
	}
	children, ok := childEvents[r.URL.Query().Get("children")]
	if !ok {
		return nil, errChildren
	}
	return &pawlv1.WatchSessionRequest{
		SessionId: sessionID, After: after, Children: children, Tasks: r.URL.Query()["task"],
	}, nil
}

// watch answers GET /v1/sessions/{session_id}/events: WatchSession as server-sent events, whose ids are cursors. The
// parameters after, children and task, which may be repeated, are the request's fields.
func (h *handler) watch(w http.ResponseWriter, r *http.Request, sessionID, secret string) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		h.refuse(w, r, errMethod)
		return
	}
	req, err := watchOf(r, sessionID)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(h.Stopping, func() { cancel(errStopping) })()
	ctx, unwatch := auth.Watch(ctx, h.Auth, secret)
	defer unwatch()
	s := &watching{ctx: ctx, w: w}
	defer s.end()
	err = h.Sessions.WatchSession(req, s)
	switch {
	case r.Context().Err() != nil, errors.Is(err, errGone):
	case s.out == nil:
		h.refuse(w, r, err)
	default:
		_ = s.out.write(flue.AppendServerSent(nil, "error", -1, h.statusOf(r, err)))
	}
}

// refuse answers with an error in the form of the API, which is that of everything below /v1/.
func (h *handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	code := http.StatusInternalServerError
	if e, ok := errs.Public(err); ok {
		if known, ok := statuses[e.Code()]; ok {
			code = known
		}
		switch {
		case e.Code() == errs.InvalidArgument, errors.Is(e, event.ErrCursorAhead):
			code = http.StatusBadRequest
		case e.Code() == errs.Unimplemented:
			code = http.StatusMethodNotAllowed
		}
	}
	respond(w, code, h.statusOf(r, err))
}

// statusOf is an error as JSON, as google.rpc.Status. What callers may not know is logged.
func (h *handler) statusOf(r *http.Request, err error) []byte {
	public, ok := rpc.ToStatus(err)
	if !ok {
		h.Log.ErrorContext(r.Context(), "a watch failed", "path", r.URL.Path, "error", err)
	}
	st, _ := status.FromError(public)
	body, err := protojson.Marshal(st.Proto())
	if err != nil {
		return []byte("{}") // its details are of a known type
	}
	return body
}

// errGone says that the reader has left.
var errGone = errors.New("the reader has left")

// watching is the response to a watch, as the stream that the API writes to.
type watching struct {
	grpc.ServerStream // of which nothing but what follows is used
	ctx               context.Context
	w                 http.ResponseWriter
	out               *sink // nil before the answer has begun
	quiet             func()
	buf               []byte
}

// Context implements grpc.ServerStream.
func (s *watching) Context() context.Context { return s.ctx }

// Send implements grpc.ServerStreamingServer.
func (s *watching) Send(m *pawlv1.WatchSessionResponse) error {
	if s.out == nil {
		s.begin()
	}
	s.buf = s.buf[:0]
	for _, e := range m.GetEvents() {
		body, err := protojson.Marshal(e)
		if err != nil {
			return err
		}
		s.buf = flue.AppendServerSent(s.buf, kindOf(e), cmp.Or(e.GetSeq(), -1), body) // 0 is no seq
	}
	if s.out.write(s.buf) != nil {
		return errGone
	}
	return nil
}

func (s *watching) begin() {
	streamHeaders(s.w.Header(), "no-cache, no-transform")
	s.w.WriteHeader(http.StatusOK)
	s.out = newSink(s.w)
	s.quiet = s.out.beat()
}

func (s *watching) end() {
	if s.out != nil {
		s.quiet()
	}
}

// kindOf is the name of an event's field.
func kindOf(e *pawlv1.Event) string {
	m := e.ProtoReflect()
	if f := m.WhichOneof(m.Descriptor().Oneofs().ByName("event")); f != nil {
		return string(f.Name())
	}
	return "message"
}
