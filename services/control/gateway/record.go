package gateway

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
	"github.com/pawl-dev/pawl/services/control/gateway/transcode"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// socketMethod is the method of requests for sockets in auth's table.
const socketMethod = "WS"

// eventOf is what the audit log is to know of a request that is refused, as long as nobody says that it is allowed.
func eventOf(p auth.Principal, method, resource string) audit.Event {
	rule, _ := auth.RuleOf(method)
	return audit.Event{
		Tenant: p.Tenant, Verb: string(rule.Verb), Method: method, Resource: resource,
		Who: audit.Who{
			TokenID: p.TokenID, Kind: string(p.Kind), Role: string(p.Role), Name: p.Name, Source: p.Source,
		},
	}
}

// refused puts on record that a request was refused, and returns with what.
func (h *Handler) refused(ctx context.Context, method, resource string, err error) error {
	e := eventOf(auth.FromContext(ctx), method, resource)
	var p *flue.Error
	if errors.As(err, &p) {
		e.Reason = strings.ToUpper(p.Type)
	}
	return audit.Refused(ctx, h.Audit, e, err)
}

// speaker is the caller as one who prompts an agent, for somebody else if the request says so. Who may not is on
// record.
func (h *Handler) speaker(r *http.Request, to target, method string) (*model.Speaker, error) {
	by, err := auth.FromContext(r.Context()).Speaker(r.Header.Get(transcode.OnBehalfOfHeader))
	if errors.Is(err, auth.ErrForbidden) {
		err = h.refused(r.Context(), method+" "+agentPattern, keyText(to.key()), err)
	}
	return by, err
}

// startRun starts a run and puts that on record: it returns when both are stored.
func (h *Handler) startRun(ctx context.Context, s Start, method string) (flue.Run, error) {
	e := eventOf(s.By, method+" "+workflowPattern, "workflow="+s.Workflow)
	e.Allowed = true
	record, err := h.Audit.Reserve()
	if err != nil {
		return flue.Run{}, err
	}
	record.Write(e) // is stored meanwhile
	run, err := h.Workflows.Start(ctx, s)
	if err != nil {
		return flue.Run{}, err
	}
	return run, record.Wait(ctx)
}

func keyText(k session.Key) string {
	text := "session=" + k.Agent + "/" + k.Instance
	if k.Name != "" {
		text += "/" + k.Name
	}
	return text
}

// prompt admits a prompt of an agent's route and puts that on record: it returns when both are stored.
func (h *Handler) prompt(ctx context.Context, in submission.Input, method string) (*submission.Following, error) {
	e := eventOf(auth.FromContext(ctx), method+" "+agentPattern, keyText(in.Key))
	if e.Allowed = true; in.By != nil {
		e.Who.OnBehalfOf = in.By.OnBehalfOf
	}
	record, err := h.Audit.Reserve()
	if err != nil {
		return nil, err
	}
	record.Fill(e)
	defer record.Write(e) // whatever has become of the admission
	in.Record = record
	f, err := h.Service.Prompt(ctx, in)
	if err != nil {
		return nil, err
	}
	record.Write(e)
	if err := record.Wait(ctx); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
