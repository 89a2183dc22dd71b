// Package transcode is /v1: the RPCs of pawl.v1 over HTTP, as the google.api.http annotations in proto/ say, and the
// files of workspaces, whose bytes are no JSON.
//
//	request ─▶ route: which RPC ─▶ decode: path, query, headers, body ─▶ gRPC in memory ─▶ JSON
//	                                             of a stream: lines of JSON, or server-sent events
//
// It holds no rules of its own. Whatever an RPC refuses, bounds or records is behind gRPC, where every other caller
// finds it too.
//
// It reads the annotations itself, rather than having grpc-gateway generate a handler for each: that library splits
// paths at an encoded slash or leaves it encoded, and ids may hold one; it answers 405 without Allow; and it writes a
// stream's error before it knows whether the answer has begun. Its parser of query parameters is used.
//
// Invariants: a client that leaves never stops the work. A stream that breaks off says why in its last frame or line.
// Every error has the one form of Problem.
package transcode

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/gateway/sse"
)

var (
	errRoute  = errs.New(errs.NotFound, "ROUTE_NOT_FOUND", "no such route")
	errMethod = errs.New(errs.Unimplemented, "METHOD_NOT_ALLOWED", "this method is not allowed here")
	// ErrStopping ends what is under way when the server stops. The work goes on: here after a restart, or at another
	// replica.
	ErrStopping = rpc.ErrStopping
)

// RequestIDHeader names a request in answers and in the log. A caller may choose it.
const RequestIDHeader = "X-Request-Id"

// Handler serves /v1 to callers that have been authenticated.
type Handler struct {
	conn     grpc.ClientConnInterface
	stopping context.Context
	log      *slog.Logger
	routes   []Route
}

// New makes a Handler that calls RPCs on conn. Open requests are answered with what stopping ends with.
func New(conn grpc.ClientConnInterface, stopping context.Context, log *slog.Logger) *Handler {
	return &Handler{conn: conn, stopping: stopping, log: log, routes: Routes()}
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := requestID(r)
	w.Header().Set(RequestIDHeader, id)
	if f, ok, err := filePath(r.URL.EscapedPath()); err != nil {
		h.Refuse(w, r, err)
		return
	} else if ok {
		h.files(w, r, f)
		return
	}
	route, vars, allow := find(h.routes, r.Method, r.URL.EscapedPath())
	if route == nil {
		err := errRoute.With("no route matches %s %.256q", r.Method, r.URL.Path)
		if len(allow) > 0 {
			w.Header().Set("Allow", strings.Join(allow, ", "))
			err = errMethod.With("%s is not allowed here; this path knows %s", r.Method, strings.Join(allow, ", "))
		}
		h.Refuse(w, r, err)
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(h.stopping, func() { cancel(ErrStopping) })()
	ctx = asCaller(ctx, r.Header.Get("Authorization"))
	body, err := readBody(w, r)
	if err != nil {
		w.Header().Set("Connection", "close") // nobody reads the rest
		h.Refuse(w, r, err)
		return
	}
	in, err := route.decode(r, vars, body)
	if err != nil {
		h.Refuse(w, r, err)
		return
	}
	if route.streams() {
		h.stream(ctx, w, r, route, in)
		return
	}
	h.unary(ctx, w, r, route, in)
}

// asCaller makes RPCs be called for who sent the request, whom the context knows: with their token, for the tenant that
// the request is about, and on record with the address that it came from.
func asCaller(ctx context.Context, authorization string) context.Context {
	p := auth.FromContext(ctx)
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", authorization, rpc.SourceKey, p.Source)
	if p.Tenant != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, auth.TenantHeader, p.Tenant)
	}
	return ctx
}

// asPart makes RPCs be called for a request of which an RPC has been called before: both are one for the caller's rate.
func asPart(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, rpc.PartKey, "yes")
}

// requestID is the caller's name for the request, or a new one.
func requestID(r *http.Request) string {
	if id := r.Header.Get(RequestIDHeader); id != "" && ident.CheckText("a request's id", id, 128) == nil {
		return id
	}
	return ident.New()
}

// Refuse answers with an error. What callers may not know is logged.
func (h *Handler) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	// The context ends when a body does not come, too. Its sender is there, and without an answer would get a 200.
	if _, public := rpc.ToStatus(err); !public && r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // that nobody is there to answer is most likely why it failed
	}
	if w.Header().Get(RequestIDHeader) == "" {
		w.Header().Set(RequestIDHeader, requestID(r))
	}
	h.problem(r, err, w.Header().Get(RequestIDHeader)).write(w)
}

// problem is an error as the sender of a request may see it. What it may not is logged.
func (h *Handler) problem(r *http.Request, err error, id string) Problem {
	return h.Problem(r.Context(), err, id, "method", r.Method, "path", r.URL.Path)
}

// Problem is an error as callers may see it. What they may not is logged, with attributes that say what failed.
func (h *Handler) Problem(ctx context.Context, err error, id string, failed ...any) Problem {
	public, ok := rpc.ToStatus(err)
	if !ok {
		h.log.ErrorContext(ctx, "a request failed", append(failed, "request_id", id, "error", err)...)
	}
	return problemOf(public, id)
}

// cause is why an RPC ended: what ended its context, if that was the server.
func cause(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var known *errs.Error
	if why := context.Cause(ctx); why != nil && errors.As(why, &known) {
		return why
	}
	return err
}

func (h *Handler) unary(ctx context.Context, w http.ResponseWriter, r *http.Request, to *Route, in proto.Message) {
	out, err := h.invoke(ctx, to, in)
	var body []byte
	if err == nil {
		body, err = encode(out)
	}
	if err != nil {
		h.Refuse(w, r, cause(ctx, err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(body, '\n')) // a client that has left is no error of ours
}

// invoke calls an RPC that answers once.
func (h *Handler) invoke(ctx context.Context, to *Route, in proto.Message) (proto.Message, error) {
	out, err := message(to.RPC.Output())
	if err != nil {
		return nil, err
	}
	return out, h.conn.Invoke(ctx, to.fullMethod(), in, out)
}

// stream answers with the messages of a stream as they come.
func (h *Handler) stream(ctx context.Context, w http.ResponseWriter, r *http.Request, to *Route, in proto.Message) {
	a := &answer{w: w, events: accepts(r, "text/event-stream")}
	defer a.end()
	err := h.receive(ctx, to, in, a.send)
	switch {
	case err == nil && !a.begun: // it has no messages
		a.begin()
		_ = a.out.Write(nil) // a reader that has left is no error of ours
	case err == nil, errors.Is(err, errGone):
	case r.Context().Err() != nil:
		panic(http.ErrAbortHandler) // whoever has closed one half of the connection must not take it for the whole
	default:
		a.fail(h.problem(r, cause(ctx, err), w.Header().Get(RequestIDHeader)))
	}
}

// receive calls an RPC and hands on what it answers, until it ends or send fails.
func (h *Handler) receive(ctx context.Context, to *Route, in proto.Message, send func(proto.Message) error) error {
	s, err := h.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, to.fullMethod())
	if err != nil {
		return err
	}
	if err := s.SendMsg(in); err != nil && !errors.Is(err, io.EOF) { // on EOF the error is in what is received
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	for {
		out, err := message(to.RPC.Output())
		if err != nil {
			return err
		}
		switch err := s.RecvMsg(out); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := send(out); err != nil {
			return err
		}
	}
}

// accepts reports whether a request asks for a media type by name.
func accepts(r *http.Request, kind string) bool {
	return strings.Contains(strings.ToLower(strings.Join(r.Header.Values("Accept"), ",")), kind)
}

// errGone says that the reader has left.
var errGone = errors.New("the reader has left")

// answer is the response to a stream: lines of JSON, or events.
type answer struct {
	w      http.ResponseWriter
	events bool
	begun  bool
	out    *sse.Stream
	quiet  func()
	buf    []byte
}

func (a *answer) begin() {
	a.begun = true
	a.out = sse.New(a.w)
	if !a.events {
		a.w.Header().Set("Content-Type", "application/x-ndjson")
		a.w.Header().Set("Cache-Control", "no-store")
		a.w.Header().Set("X-Accel-Buffering", "no")
		return
	}
	sse.SetHeaders(a.w.Header(), "no-cache, no-transform")
	a.quiet = a.out.Beat()
}

// send writes a message. The first one sends the headers, whatever it holds.
func (a *answer) send(m proto.Message) (err error) {
	first := !a.begun
	if first {
		a.begin()
	}
	if a.events {
		a.buf, err = appendFrames(a.buf[:0], m)
	} else if a.buf = a.buf[:0]; !first || proto.Size(m) > 0 { // an empty one says that the stream has begun
		a.buf, err = appendLine(a.buf, m)
	}
	if err != nil {
		return err
	}
	if !first && len(a.buf) == 0 {
		return nil
	}
	if a.out.Write(a.buf) != nil {
		return errGone
	}
	return nil
}

// fail says in the last frame why there are no more.
func (a *answer) fail(p Problem) {
	fact, moves := cursorOf[p.Reason]
	moves = moves && a.events
	if !a.begun && !moves {
		p.write(a.w)
		return
	}
	if !a.begun {
		a.begin()
	}
	last := append(p.encode(), '\n')
	switch {
	case moves:
		cursor, _ := sse.ParseID(p.Details[fact]) // a fact is a seq
		last = sse.AppendFrame(nil, strings.ToLower(p.Reason), cursor, p.encode())
	case a.events:
		last = sse.AppendFrame(nil, "error", -1, p.encode())
	}
	_ = a.out.Write(last) // a reader that has left is no error of ours
}

// cursorOf are the reasons for which a reader has to go on elsewhere, and the detail that says where. Browsers do not
// show pages the status of a stream that was refused, and try again with the same cursor for ever: these readers get an
// event whose id is the cursor to go on with, and the end of the stream.
var cursorOf = map[string]string{"CURSOR_TOO_OLD": "continue_from", "CURSOR_AHEAD": "head"}

func (a *answer) end() {
	if a.quiet != nil {
		a.quiet()
	}
}
