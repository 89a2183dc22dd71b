package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
	"github.com/pawl-dev/pawl/services/control/gateway/socket"
	"github.com/pawl-dev/pawl/services/control/gateway/transcode"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// target is what a request is for, and the token that it came with.
type target struct {
	agent, instance string
	secret          string
	verbose         bool // the reader wants to see what the model is asked with
}

func (t target) key() session.Key { return session.Key{Agent: t.agent, Instance: t.instance} }

// agent answers POST /agents/{agent}/{instance}, and GET for a socket.
func (h *Handler) agent(w http.ResponseWriter, r *http.Request, to target) {
	if socket.IsUpgrade(r) {
		h.serveSocket(w, r, to)
		return
	}
	def, err := h.find(r, to, agent.HTTP)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	in, err := h.input(w, r, to)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(h.Stopping, func() { cancel(transcode.ErrStopping) })()
	ctx, unwatch := auth.Watch(ctx, h.Auth, to.secret)
	defer unwatch()
	streams := strings.Contains(r.Header.Get("Accept"), "text/event-stream")
	in.ToEnd = !streams
	f, err := h.prompt(ctx, in, http.MethodPost)
	if err != nil {
		h.fail(w, r, h.unknown(r, to, err))
		return
	}
	defer f.Close()
	nameSubmission(w.Header(), f)
	if streams {
		to.verbose = r.URL.Query().Get("verbose") == "1"
		h.stream(ctx, w, to, f, def)
		return
	}
	h.answer(ctx, w, r, f)
}

// Headers of an answer to a prompt. Link names where the events of the submission, and all later ones of its session,
// can be read.
const (
	sessionHeader    = "Pawl-Session"
	submissionHeader = "Pawl-Submission"
	linkHeader       = "Link"
)

// whenBusyHeader is what to do with a prompt for a session that is busy: queue, steer or interrupt.
const whenBusyHeader = "Pawl-When-Busy"

func nameSubmission(head http.Header, f *submission.Following) {
	head.Set(sessionHeader, f.Submission.SessionID)
	head.Set(submissionHeader, f.Submission.ID)
	head.Set(linkHeader, fmt.Sprintf(`</v1/sessions/%s/events?after=%d>; rel="monitor"; type="text/event-stream"`,
		f.Submission.SessionID, f.Before))
}

// find is the agent, if the caller may prompt it here. An agent that is not there is found without a definition by who
// names an idempotency key: what it had accepted under the key goes on and is answered.
func (h *Handler) find(r *http.Request, to target, over agent.Surface) (agent.Definition, error) {
	if strings.TrimSpace(to.agent) == "" || strings.TrimSpace(to.instance) == "" {
		return agent.Definition{}, flue.Malformed(flue.AgentPath)
	}
	caller := auth.FromContext(r.Context())
	err := auth.Authorize(caller, auth.Prompt, auth.Resource{Agent: to.agent, Missing: agent.Missing(to.agent)})
	if err == nil {
		err = auth.Authorize(caller, auth.Prompt, auth.Resource{Instance: to.instance})
	}
	if err != nil {
		err = h.refused(r.Context(), methodOver(over)+" "+agentPattern, keyText(to.key()), err)
	}
	var def agent.Definition
	if err == nil {
		def, err = h.Agents.Get(caller.Tenant, to.agent)
		if errors.Is(err, agent.ErrNotFound) && r.Header.Get("Idempotency-Key") != "" {
			return agent.Definition{}, nil
		}
	}
	if err == nil && !def.Exposes(over) {
		err = agent.Missing(to.agent)
	}
	return def, h.unknown(r, to, err)
}

// unknown is err, which for an agent that is not there names those that are.
func (h *Handler) unknown(r *http.Request, to target, err error) error {
	if !errors.Is(err, agent.ErrNotFound) {
		return err
	}
	return flue.AgentNotFound(to.agent, agent.WithKnown(err, h.exposed(auth.FromContext(r.Context()))))
}

// exposed is the names of the agents that the caller may prompt here.
func (h *Handler) exposed(caller auth.Principal) []string {
	return slices.DeleteFunc(caller.Known(h.Agents.Names(caller.Tenant)), func(name string) bool {
		def, err := h.Agents.Get(caller.Tenant, name)
		return err != nil || !def.Exposes(agent.HTTP)
	})
}

// input is the prompt that a request holds.
func (h *Handler) input(w http.ResponseWriter, r *http.Request, to target) (submission.Input, error) {
	body, err := readBody(w, r)
	if err != nil {
		return submission.Input{}, err
	}
	if r.Header.Get("X-Webhook") == "true" {
		return submission.Input{}, flue.Malformed(flue.NoWebhook)
	}
	by, err := h.speaker(r, to, http.MethodPost)
	if err != nil {
		return submission.Input{}, err
	}
	busy, err := submission.ParseWhenBusy(r.Header.Get(whenBusyHeader))
	if err != nil {
		return submission.Input{}, err
	}
	message, name, err := parsePrompt(body)
	return submission.Input{
		Key: session.Key{
			Tenant: auth.FromContext(r.Context()).Tenant, Agent: to.agent, Instance: to.instance,
			Name: name,
		},
		Message: message, IdempotencyKey: r.Header.Get("Idempotency-Key"), By: by, MayBeBlank: true, WhenBusy: busy,
	}, err
}

// answer waits for the submission and answers with its result.
func (h *Handler) answer(ctx context.Context, w http.ResponseWriter, r *http.Request, f *submission.Following) {
	sub, err := h.settled(ctx, f)
	switch {
	case r.Context().Err() != nil: // nobody is there to answer
	case err != nil:
		h.fail(w, r, err)
	case sub.Outcome != lane.Completed:
		h.fail(w, r, flue.NotCompleted(sub))
	default:
		writeJSON(w, http.StatusOK, map[string]any{"result": flue.ResultOf(sub)})
	}
}

func (h *Handler) settled(ctx context.Context, f *submission.Following) (submission.Submission, error) {
	if f.Replayed && f.Submission.Status == submission.SettledStatus {
		return h.Service.Get(ctx, f.Submission.Key.Tenant, f.Submission.ID) // without its events
	}
	for _, err := range f.Events(ctx) {
		if err != nil {
			return submission.Submission{}, err
		}
	}
	if f.Submission.Status != submission.SettledStatus {
		return submission.Submission{}, context.Cause(ctx)
	}
	return f.Submission, nil
}
