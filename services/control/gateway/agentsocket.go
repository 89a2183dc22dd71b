package gateway

import (
	"context"
	"errors"
	"net/http"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
	"github.com/pawl-dev/pawl/services/control/gateway/socket"
	"github.com/pawl-dev/pawl/services/control/gateway/transcode"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
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
	*socket.Session
	h   *Handler
	to  target
	def agent.Definition
	by  *model.Speaker
}

// serveSocket answers GET /agents/{agent}/{instance} that asks for a socket.
func (h *Handler) serveSocket(w http.ResponseWriter, r *http.Request, to target) {
	def, err := h.find(r, to, agent.WebSocket)
	if err != nil {
		// What is refused has no body that a client could see.
		h.fail(w, r, flue.RouteNotFound(r.Method, r.URL.EscapedPath()))
		return
	}
	by, err := h.speaker(r, to, socketMethod)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	h.upgrade(w, r, to.secret, maxSocketPrompts, func(ctx context.Context, session *socket.Session) {
		s := &agentSocket{Session: session, h: h, to: to, def: def, by: by}
		if s.Write(flue.ReadyFrame(to.agent, to.instance)) != nil {
			return
		}
		message := func(text []byte) error { return s.message(ctx, text) }
		s.Run(ctx, message, closing, func() []byte {
			return flue.ErrorFrame(nil, flue.Malformed(flue.SocketBinary))
		})
	})
}

// upgrade makes a socket of a request and runs what goes on over it, in a goroutine of its own: a request, its stack
// and its buffers are many times what a socket needs that says nothing. Its context has nothing of the request's but
// the principal. It ends when the token does, when the server stops, and when the peer has left or takes nothing.
func (h *Handler) upgrade(
	w http.ResponseWriter, r *http.Request, secret string, tasks int, run func(context.Context, *socket.Session),
) {
	conn, err := socket.Accept(w, r)
	if err != nil {
		return // it has been answered
	}
	ctx := auth.NewContext(context.Background(), auth.FromContext(r.Context()))
	h.sockets.Go(func() { h.converse(ctx, conn, secret, tasks, run) })
}

// converse runs what goes on over a socket, until it has ended.
func (h *Handler) converse(
	ctx context.Context, conn *socket.Conn, secret string, tasks int, run func(context.Context, *socket.Session),
) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ctx, unwatch := auth.Watch(ctx, h.Auth, secret)
	defer unwatch()
	defer context.AfterFunc(h.Stopping, func() { cancel(transcode.ErrStopping) })()
	session := socket.NewSession(conn, tasks, cancel)
	if err := contain.Do(func() error { run(ctx, session); return nil }); err != nil {
		h.Log.ErrorContext(ctx, "a socket failed", "error", err)
		conn.Close(socket.Failed, "")
	}
	cancel(socket.ErrGone) // what is under way goes on without a reader
	session.Wait()
	conn.Close(socket.Normal, "")
}

// closing is how a socket ends that the server ends.
func closing(cause error) (code socket.Code, reason string) {
	switch {
	case errors.Is(cause, transcode.ErrStopping):
		return socket.GoingAway, "Server shutting down"
	case errors.Is(cause, socket.ErrStalled):
		return socket.Policy, "The reader took nothing for 2 minutes"
	}
	return socket.Policy, "The token is not valid any more"
}

// message does what a message says. It fails when the reader has left.
func (s *agentSocket) message(ctx context.Context, text []byte) error {
	m, wrong := flue.ParseAgentMessage(text)
	switch {
	case wrong != nil:
		return s.Write(flue.ErrorFrame(m.RequestID, wrong))
	case m.Ping:
		return s.Write(flue.PongFrame(m.RequestID))
	}
	begun := s.Go(func() error { return s.prompt(ctx, *m.RequestID, m) }, func(err error) {
		_ = s.Write(flue.ErrorFrame(m.RequestID, s.h.publicOf(ctx, err))) // the reader may have left
	})
	if !begun {
		return s.Write(flue.ErrorFrame(m.RequestID, flue.TooManyPrompts()))
	}
	return nil
}

// publicOf is an error as clients may see it. What they may not is logged.
func (h *Handler) publicOf(ctx context.Context, err error) *flue.Error {
	p, ok := problemOf(err)
	if !ok {
		h.Log.ErrorContext(ctx, "what was asked for on a socket failed", "error", err)
	}
	return p
}

// prompt admits a prompt and tells what becomes of it. The error is why it did not complete; nil when the client knows.
func (s *agentSocket) prompt(ctx context.Context, id string, m flue.AgentMessage) error {
	if err := auth.FromContext(ctx).Spend(); err != nil {
		return err
	}
	key := session.Key{
		Tenant: auth.FromContext(ctx).Tenant, Agent: s.to.agent, Instance: s.to.instance, Name: m.Session,
	}
	busy, err := submission.ParseWhenBusy(m.WhenBusy)
	if err != nil {
		return flue.Malformed(flue.SocketWhenBusy)
	}
	f, err := s.h.prompt(ctx, submission.Input{
		Key: key, Message: m.Message, By: s.by, MayBeBlank: true, WhenBusy: busy,
	}, socketMethod)
	if err != nil {
		return err
	}
	defer f.Close()
	begun := false
	err = s.h.follow(ctx, s.to, f, s.def, func(events []flue.Event) error {
		for _, e := range events {
			if !begun {
				begun = true
				if err := s.Write(flue.StartedFrame(id)); err != nil {
					return err
				}
			}
			if err := s.Write(flue.EventFrame(id, e)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || f.Submission.Status != submission.SettledStatus || f.Submission.Outcome != lane.Completed {
		return err
	}
	result := flue.ResultOf(f.Submission)
	return s.Write(flue.ResultFrame(id, &result))
}
