package gateway

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
	"github.com/pawl-dev/pawl/services/control/gateway/socket"
	"github.com/pawl-dev/pawl/services/control/gateway/transcode"
)

// runHeader names the run that a request has started, or would have.
const runHeader = "X-Flue-Run-Id"

// serveWorkflow answers POST /workflows/{workflow}, and GET for a socket.
func (h *Handler) serveWorkflow(w http.ResponseWriter, r *http.Request, name, secret string) {
	if socket.IsUpgrade(r) {
		h.serveWorkflowSocket(w, r, name, secret)
		return
	}
	wait, wrong := flue.ParseWait(r.URL.RawQuery)
	if wrong != nil {
		h.fail(w, r, wrong)
		return
	}
	if err := h.mayStart(r, name, agent.HTTP); err != nil {
		h.fail(w, r, err)
		return
	}
	start := newStart(r.Context(), name)
	start.IdempotencyKey = r.Header.Get("Idempotency-Key")
	w.Header().Set(runHeader, flue.RunID(name, start.ID))
	var err error
	if start.Payload, err = readBody(w, r); err != nil {
		h.fail(w, r, err)
		return
	}
	run, err := h.startRun(r.Context(), start, http.MethodPost)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	w.Header().Set(runHeader, run.WireID()) // of a replay it is another
	switch {
	case wait:
		h.await(w, r, run, secret)
	case strings.Contains(r.Header.Get("Accept"), "text/event-stream"):
		h.tail(w, r, tailing{run: run, after: -1, secret: secret})
	default:
		writeJSON(w, http.StatusAccepted, run.Accepted())
	}
}

// newStart is a run that the caller asks for.
func newStart(ctx context.Context, name string) Start {
	caller := auth.FromContext(ctx)
	return Start{ID: ident.New(), Tenant: caller.Tenant, Workflow: name, By: caller}
}

// mayStart fails unless the caller may start the workflow over a surface.
func (h *Handler) mayStart(r *http.Request, name string, over agent.Surface) error {
	if strings.TrimSpace(name) == "" {
		return flue.Malformed(flue.WorkflowPath)
	}
	missing := flue.WorkflowNotFound(name)
	err := auth.Authorize(auth.FromContext(r.Context()), auth.StartRuns, auth.Resource{
		Workflow: name, Missing: missing,
	})
	if err != nil {
		return h.refused(r.Context(), methodOver(over)+" "+workflowPattern, "workflow="+name, err)
	}
	surfaces, err := h.Workflows.Surfaces(auth.FromContext(r.Context()).Tenant, name)
	switch {
	case errors.Is(err, ErrWorkflowNotFound):
		return missing
	case err == nil && !slices.Contains(surfaces, over):
		return flue.WorkflowNotHTTP(name)
	}
	return err
}

// await answers with what a run came to, when it has ended.
func (h *Handler) await(w http.ResponseWriter, r *http.Request, run flue.Run, secret string) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(h.Stopping, func() { cancel(transcode.ErrStopping) })()
	ctx, unwatch := auth.Watch(ctx, h.Auth, secret)
	defer unwatch()
	run, err := h.outcome(ctx, run)
	switch {
	case r.Context().Err() != nil: // nobody is there to answer
	case err != nil:
		h.fail(w, r, known(err, run.WireID()))
	case run.Status != flue.Completed:
		h.fail(w, r, flue.Internal())
	default:
		writeJSON(w, http.StatusOK, run.Outcome())
	}
}

// outcome is a run when it has ended.
func (h *Handler) outcome(ctx context.Context, run flue.Run) (flue.Run, error) {
	tenant := auth.FromContext(ctx).Tenant
	if run.Status == flue.Active {
		for _, err := range h.Workflows.Follow(ctx, tenant, run.ID, math.MaxInt) { // none of its events
			if err != nil {
				return run, err
			}
		}
	}
	return h.Workflows.Run(ctx, tenant, run.ID)
}
