package gateway

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"path"
	"slices"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
	"github.com/pawl-dev/pawl/services/control/gateway/sse"
	"github.com/pawl-dev/pawl/services/control/gateway/transcode"
)

// Errors of Workflows.
var (
	ErrWorkflowNotFound = errs.New(errs.NotFound, "WORKFLOW_NOT_FOUND", "no such workflow")
	ErrRunNotFound      = errs.New(errs.NotFound, "RUN_NOT_FOUND", "no such run")
)

// Start is a run that somebody asks for.
type Start struct {
	ID       string // UUIDv7, of the run unless it is a replay
	Tenant   string
	Workflow string
	Payload  []byte // JSON
	// IdempotencyKey names the request within tenant and workflow; "" does not.
	IdempotencyKey string
	By             auth.Principal
}

// RunFilter says which runs of a tenant are listed.
type RunFilter struct {
	Tenant    string
	Workflows []string // only of these; none is all
	flue.RunsQuery
}

// Workflows starts runs and knows what became of them. A run goes on whoever follows it, and nothing that happens in
// one harms another or the process. Methods that are asked for a run fail with ErrRunNotFound for one that is not the
// tenant's.
type Workflows interface {
	// Surfaces are those over which a workflow of a tenant is offered, or ErrWorkflowNotFound.
	Surfaces(tenant, name string) ([]agent.Surface, error)
	// Start admits a run durably and returns it. A repeated request, as its idempotency key tells, is answered with its
	// run; another one under that key is refused.
	Start(ctx context.Context, s Start) (flue.Run, error)
	// Run is a run.
	Run(ctx context.Context, tenant, id string) (flue.Run, error)
	// Runs are at most Limit runs, sorted as flue.Cursor says. more says whether there are others after them.
	Runs(ctx context.Context, f RunFilter) (page []flue.Run, more bool, err error)
	// Events are a run's events after an index, -1 for all, in order, without those that are flue.Ephemeral.
	Events(ctx context.Context, tenant, id string, after int) iter.Seq2[flue.RunEvent, error]
	// Follow are a run's events after an index, -1 for all, in order: those that there are, then each as it is
	// committed. Ephemeral ones of what is over may be missing. It ends after the run's last event, or with an error;
	// when ctx ends with the cause. When it has ended without an error the run is not active.
	Follow(ctx context.Context, tenant, id string, after int) iter.Seq2[[]flue.RunEvent, error]
}

// noWorkflows is a control plane without workflows.
type noWorkflows struct{ Workflows }

func (noWorkflows) Surfaces(string, string) ([]agent.Surface, error) { return nil, ErrWorkflowNotFound }

func (noWorkflows) Run(context.Context, string, string) (flue.Run, error) {
	return flue.Run{}, ErrRunNotFound
}

func (noWorkflows) Runs(context.Context, RunFilter) ([]flue.Run, bool, error) { return nil, false, nil }

// What of a run is asked for.
const (
	theRun    = ""
	theEvents = "events"
	theStream = "stream"
)

// runTarget is the run, or the part of it, that a request is for, and the token that it came with.
type runTarget struct{ id, part, secret string }

func serveRun(part string) func(*Handler, http.ResponseWriter, *http.Request, call) {
	return func(h *Handler, w http.ResponseWriter, r *http.Request, c call) {
		h.run(w, r, runTarget{c.vars[0], part, c.secret})
	}
}

// run answers GET /runs/{run} and what is below it.
func (h *Handler) run(w http.ResponseWriter, r *http.Request, to runTarget) {
	query := flue.EventsQuery{After: flue.ParseLastEventID(r.Header.Get("Last-Event-ID"))}
	if to.part == theEvents {
		var wrong *flue.Error
		if query, wrong = flue.ParseEventsQuery(r.URL.RawQuery); wrong != nil {
			h.fail(w, r, wrong)
			return
		}
	}
	run, err := h.findRun(r, to.id, path.Join(runPattern, to.part))
	switch {
	case err != nil:
		h.fail(w, r, err)
	case to.part == theEvents:
		h.page(w, r, run, query)
	case to.part == theStream && run.Status == flue.Active:
		h.tail(w, r, tailing{run: run, after: query.After, secret: to.secret})
	case to.part == theStream:
		h.replay(w, r, run, query.After)
	default:
		writeJSON(w, http.StatusOK, run.Record())
	}
}

// findRun is the run that a path of a pattern names, if the caller may read it.
func (h *Handler) findRun(r *http.Request, wireID, pattern string) (flue.Run, error) {
	missing := flue.RunNotFound(wireID)
	workflow, id, ok := flue.ParseRunID(wireID)
	if !ok {
		return flue.Run{}, missing
	}
	caller := auth.FromContext(r.Context())
	if err := auth.Authorize(caller, auth.ReadRuns, auth.Resource{Workflow: workflow, Missing: missing}); err != nil {
		return flue.Run{}, h.refused(r.Context(), http.MethodGet+" "+pattern, "run="+wireID, err)
	}
	run, err := h.Workflows.Run(r.Context(), caller.Tenant, id)
	if err == nil && run.Workflow != workflow {
		err = ErrRunNotFound
	}
	return run, known(err, wireID)
}

// eachEvent hands on the events of a run that are kept, encoded, until hand fails or says that it has enough.
func (h *Handler) eachEvent(
	r *http.Request, run flue.Run, after int, hand func(flue.Event) (more bool, err error),
) error {
	for e, err := range h.Workflows.Events(r.Context(), auth.FromContext(r.Context()).Tenant, run.ID, after) {
		if err != nil {
			return err
		}
		if more, err := hand(run.Event(e)); err != nil || !more {
			return err
		}
	}
	return nil
}

// page answers with some of a run's events.
func (h *Handler) page(w http.ResponseWriter, r *http.Request, run flue.Run, q flue.EventsQuery) {
	out := &spool{w: w, head: jsonHeaders, body: []byte(`{"events":[`)}
	n := 0
	err := h.eachEvent(r, run, q.After, func(e flue.Event) (more bool, err error) {
		if len(q.Types) > 0 && !slices.Contains(q.Types, e.Type) {
			return true, nil
		}
		if n++; n > 1 {
			out.body = append(out.body, ',')
		}
		return n < q.Limit, out.add(e.JSON)
	})
	out.body = append(out.body, "]}\n"...)
	h.finish(w, r, out, run, err)
}

// replay answers with the whole stream of a run that has ended.
func (h *Handler) replay(w http.ResponseWriter, r *http.Request, run flue.Run, after int) {
	out := &spool{w: w, head: streamHeaders}
	err := h.eachEvent(r, run, after, func(e flue.Event) (more bool, err error) {
		return true, out.add(flue.AppendFrame(nil, e))
	})
	h.finish(w, r, out, run, err)
}

// finish sends what a spool has yet, or the error if nothing was sent. One that comes later cuts the answer off, so
// that nobody takes it for whole.
func (h *Handler) finish(w http.ResponseWriter, r *http.Request, out *spool, run flue.Run, err error) {
	switch {
	case err == nil:
		_ = out.end() // the reader may have left
	case !out.sent:
		h.fail(w, r, known(err, run.WireID()))
	default:
		if r.Context().Err() == nil {
			h.Log.ErrorContext(r.Context(), "sending a run broke off", "path", r.URL.Path, "error", err)
		}
		panic(http.ErrAbortHandler)
	}
}

// known is err, which for a run that is gone says so in the protocol's words.
func known(err error, wireID string) error {
	if errors.Is(err, ErrRunNotFound) {
		return flue.RunNotFound(wireID)
	}
	return err
}

// tailing is a reader of a run that goes on.
type tailing struct {
	run    flue.Run
	after  int
	secret string
	// idle has an event of flue.IdleType come before the last one, unless there is one already. It is not kept.
	idle bool
}

// tail answers with the stream of a run, until the run has ended.
func (h *Handler) tail(w http.ResponseWriter, r *http.Request, to tailing) {
	streamHeaders(w.Header())
	w.WriteHeader(http.StatusOK)
	ctx, unwatch := auth.Watch(r.Context(), h.Auth, to.secret)
	defer unwatch()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(h.Stopping, func() { cancel(transcode.ErrStopping) })()
	out := sse.New(w)
	if out.Write(nil) != nil {
		return
	}
	defer out.Beat()()
	var frames []byte
	last := to.after
	err := h.followRun(ctx, to, func(events []flue.Event) error {
		frames = frames[:0]
		for _, e := range events {
			frames, last = flue.AppendFrame(frames, e), e.Index
		}
		return out.Write(frames)
	})
	switch {
	case r.Context().Err() != nil:
		cut()
	case err == nil:
		return
	}
	p, ok := problemOf(known(err, to.run.WireID()))
	if !ok {
		h.Log.ErrorContext(ctx, "streaming a run failed", "run_id", to.run.ID, "error", err)
	}
	_ = out.Write(flue.AppendFrame(nil, p.RunFrame(last)))
}

// followRun hands on a run's events after an index until it has ended, and returns why there are no more: nil when it
// has ended, or when send has failed, because the reader has left.
func (h *Handler) followRun(ctx context.Context, to tailing, send func([]flue.Event) error) error {
	var out []flue.Event
	for batch, err := range h.Workflows.Follow(ctx, auth.FromContext(ctx).Tenant, to.run.ID, to.after) {
		if err != nil {
			return err
		}
		out = out[:0]
		for _, e := range batch {
			if e.Type == flue.RunEndType && to.idle {
				out = append(out, to.run.Event(flue.RunEvent{Index: e.Index, Type: flue.IdleType, Time: e.Time}))
				e.Index++
			}
			to.idle = to.idle && e.Type != flue.IdleType
			out = append(out, to.run.Event(e))
		}
		if len(out) > 0 && send(out) != nil {
			return nil
		}
	}
	return nil
}
