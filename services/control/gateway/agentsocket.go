package gateway

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
	"github.com/pawl-dev/pawl/services/control/gateway/socket"
	"github.com/pawl-dev/pawl/services/control/gateway/transcode"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// maxSocketPrompts is how many prompts one socket may wait for at once.
const maxSocketPrompts = 64

// agentSocket is a socket on which one agent's instance is prompted:
//
//	ready, then for each prompt: started event* (result | error), or error alone when it never began
//
// Prompts of one session run in order, those of others side by side. A client that leaves does not stop them.
type agentSocket struct {
	h    *Handler
	conn *socket.Conn
	to   target
	def  agent.Definition

	mu      sync.Mutex // guards ending: no prompt begins after it
	ending  bool
	prompts sync.WaitGroup
	slots   chan struct{}
}

// serveSocket answers GET /agents/{agent}/{instance} that asks for a socket.
func (h *Handler) serveSocket(w http.ResponseWriter, r *http.Request, to target) {
	def, err := h.find(r, to, agent.WebSocket)
	if err != nil {
		// What is refused has no body that a client could see.
		h.fail(w, r, flue.RouteNotFound(r.Method, r.URL.Path))
		return
	}
	conn, err := socket.Accept(w, r)
	if err != nil {
		return // it has been answered
	}
	h.sockets.Add(1)
	defer h.sockets.Done()
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(r.Context())) // the connection is ours now
	defer cancel(nil)
	ctx, unwatch := auth.Watch(ctx, h.Auth, to.secret)
	defer unwatch()
	defer context.AfterFunc(h.Stopping, func() { cancel(transcode.ErrStopping) })()
	s := &agentSocket{h: h, conn: conn, to: to, def: def, slots: make(chan struct{}, maxSocketPrompts)}
	s.run(ctx)
	cancel(errGone) // prompts go on without a reader
	s.prompts.Wait()
}

// run reads what the client says, until it leaves or ctx ends.
func (s *agentSocket) run(ctx context.Context) {
	ended := context.AfterFunc(ctx, func() { s.end(closing(context.Cause(ctx))) })
	err := s.conn.Write(flue.ReadyFrame(s.to.agent, s.to.instance))
	for err == nil {
		var text []byte
		if text, err = s.conn.Read(); err == nil {
			err = s.message(ctx, text)
		}
	}
	switch {
	case errors.Is(err, socket.ErrBinary):
		_ = s.conn.Write(flue.ErrorFrame(nil, flue.Malformed(flue.SocketBinary)))
		s.conn.Close(socket.Unsupported, "Binary messages are not supported")
	case errors.Is(err, socket.ErrTooLarge):
		s.conn.Close(socket.TooBig, "")
	case ended():
		s.conn.Close(socket.Normal, "")
	}
}

// end lets the prompts say their last words, and closes the socket.
func (s *agentSocket) end(code socket.Code, reason string) {
	s.mu.Lock()
	s.ending = true
	s.mu.Unlock()
	s.prompts.Wait()
	s.conn.Close(code, reason)
}

// errGone says that the reader has left.
var errGone = errors.New("the reader has left")

// closing is how a socket ends that the server ends.
func closing(cause error) (code socket.Code, reason string) {
	if errors.Is(cause, transcode.ErrStopping) {
		return socket.GoingAway, "Server shutting down"
	}
	return socket.Policy, "The token is not valid any more"
}

// message does what a message says. It fails when the reader has left.
func (s *agentSocket) message(ctx context.Context, text []byte) error {
	m, wrong := flue.ParseAgentMessage(text)
	switch {
	case wrong != nil:
		return s.conn.Write(flue.ErrorFrame(m.RequestID, wrong))
	case m.Ping:
		return s.conn.Write(flue.PongFrame(m.RequestID))
	}
	select {
	case s.slots <- struct{}{}:
	default:
		return s.conn.Write(flue.ErrorFrame(m.RequestID, flue.TooManyPrompts()))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return errGone
	}
	s.prompts.Go(func() {
		defer func() { <-s.slots }()
		err := contain.Do(func() error { return s.prompt(ctx, *m.RequestID, m) })
		if err != nil && !errors.Is(err, errGone) {
			_ = s.conn.Write(flue.ErrorFrame(m.RequestID, s.h.publicOf(ctx, err))) // the reader may have left
		}
	})
	return nil
}

// publicOf is an error as clients may see it. What they may not is logged.
func (h *Handler) publicOf(ctx context.Context, err error) *flue.Error {
	p, ok := problemOf(err)
	if !ok {
		h.Log.ErrorContext(ctx, "a prompt on a socket failed", "error", err)
	}
	return p
}

// prompt admits a prompt and tells what becomes of it. The error is why it did not complete; nil when the client knows.
func (s *agentSocket) prompt(ctx context.Context, id string, m flue.AgentMessage) error {
	key := session.Key{
		Tenant: auth.FromContext(ctx).Tenant, Agent: s.to.agent, Instance: s.to.instance, Name: m.Session,
	}
	f, err := s.h.Service.Prompt(ctx, submission.Input{Key: key, Message: m.Message})
	if err != nil {
		return err
	}
	defer f.Close()
	begun := false
	err = s.h.follow(ctx, s.to, f, s.def, func(events []flue.Event) error {
		for _, e := range events {
			if !begun {
				begun = true
				if err := s.conn.Write(flue.StartedFrame(id)); err != nil {
					return err
				}
			}
			if err := s.conn.Write(flue.EventFrame(id, e)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || f.Submission.Status != submission.SettledStatus || f.Submission.Outcome != lane.Completed {
		return err
	}
	result := flue.ResultOf(f.Submission)
	return s.conn.Write(flue.ResultFrame(id, &result))
}
