package gateway

import (
	"context"
	"errors"
	"net/http"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
	"github.com/pawl-dev/pawl/services/control/gateway/socket"
)

// workflowSocket is a socket on which one run of a workflow is started:
//
//	ready, then started event* (result | error), or error alone when the run never began; then it is closed
//
// A client that leaves does not stop the run.
type workflowSocket struct {
	*socket.Session
	h       *Handler
	name    string
	invoked bool // of the reader's goroutine
}

// errRefused ends a socket that has been closed.
var errRefused = errors.New("the socket was closed")

// serveWorkflowSocket answers GET /workflows/{workflow} that asks for a socket.
func (h *Handler) serveWorkflowSocket(w http.ResponseWriter, r *http.Request, name, secret string) {
	if h.mayStart(r, name, agent.WebSocket) != nil {
		// What is refused has no body that a client could see.
		h.fail(w, r, flue.RouteNotFound(r.Method, r.URL.EscapedPath()))
		return
	}
	h.upgrade(w, r, secret, 1, func(ctx context.Context, session *socket.Session) {
		s := &workflowSocket{Session: session, h: h, name: name}
		if s.Write(flue.WorkflowReadyFrame(name)) != nil {
			return
		}
		message := func(text []byte) error { return s.message(ctx, text) }
		s.Run(ctx, message, closing, func() []byte {
			return flue.ErrorFrame(nil, flue.Malformed(flue.SocketBinary))
		})
	})
}

// message does what a message says. It fails when the reader has left, or is left.
func (s *workflowSocket) message(ctx context.Context, text []byte) error {
	in, wrong := flue.ParseInvocation(text)
	if wrong != nil {
		return s.Write(flue.ErrorFrame(in.RequestID, wrong))
	}
	if s.invoked {
		_ = s.Write(flue.ErrorFrame(in.RequestID, flue.Malformed(flue.SocketOnce))) // the socket ends either way
		s.Close(socket.Policy, "Workflow accepts one invocation only")
		return errRefused
	}
	s.invoked = true
	start := newStart(ctx, s.name)
	start.Payload = in.Payload
	frames := flue.RunSocket{RequestID: *in.RequestID, RunID: flue.RunID(s.name, start.ID)}
	s.Go(func() error { return s.run(ctx, start, frames) }, func(err error) {
		_ = s.Write(frames.Error(s.h.publicOf(ctx, err))) // the reader may have left
		if ctx.Err() == nil {                             // else the session closes the socket, and says why
			s.Close(socket.Failed, "Workflow failed")
		}
	})
	return nil
}

// run starts the run and tells what becomes of it. The error is why it did not complete, or why nobody knows.
func (s *workflowSocket) run(ctx context.Context, start Start, frames flue.RunSocket) error {
	run, err := s.h.startRun(ctx, start, socketMethod)
	if err != nil {
		return err
	}
	if err := s.Write(frames.Started()); err != nil {
		return socket.ErrGone
	}
	err = s.h.followRun(ctx, tailing{run: run, after: -1, idle: true}, func(events []flue.Event) error {
		for _, e := range events {
			if err := s.Write(frames.Event(e)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if run, err = s.h.outcome(ctx, run); err != nil {
		return err
	}
	if run.Status != flue.Completed {
		return flue.Internal()
	}
	if s.Write(frames.Result(run.Result)) != nil {
		return socket.ErrGone
	}
	s.Close(socket.Normal, "Workflow completed")
	return nil
}
