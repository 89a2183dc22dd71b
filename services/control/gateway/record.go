package gateway

import (
	"context"

	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/auth"
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
