package gateway

import (
	"net/http"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
	documents "github.com/pawl-dev/pawl/third_party/flue"
)

// adminDocument describes the routes below /admin.
func adminDocument(_ *Handler, w http.ResponseWriter, _ *http.Request, _ call) {
	jsonHeaders(w.Header())
	_, _ = w.Write(documents.Admin)
}

// adminAgents lists the agents that there are, those that nothing offers too.
func adminAgents(h *Handler, w http.ResponseWriter, r *http.Request, _ call) {
	list := []flue.Agent{}
	caller := auth.FromContext(r.Context())
	for _, name := range caller.Known(h.Agents.Names(caller.Tenant)) {
		def, err := h.Agents.Get(caller.Tenant, name)
		if err != nil {
			continue // it has just been removed
		}
		list = append(list, flue.Agent{Name: name, Created: true, Transports: flue.Transports{
			HTTP: def.Exposes(agent.HTTP), WebSocket: def.Exposes(agent.WebSocket),
		}})
	}
	writeJSON(w, http.StatusOK, map[string]any{"items": list})
}

// adminRuns lists runs.
func adminRuns(h *Handler, w http.ResponseWriter, r *http.Request, _ call) {
	query, wrong := flue.ParseRunsQuery(r.URL.RawQuery)
	if wrong != nil {
		h.fail(w, r, wrong)
		return
	}
	caller := auth.FromContext(r.Context())
	workflows, all := caller.Workflows()
	if !all && len(workflows) == 0 {
		writeJSON(w, http.StatusOK, flue.RunList(nil, false))
		return
	}
	filter := RunFilter{Tenant: caller.Tenant, Workflows: workflows, RunsQuery: query}
	page, more, err := h.Workflows.Runs(r.Context(), filter)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, flue.RunList(page, more))
}

// adminRun is the record of a run.
func adminRun(h *Handler, w http.ResponseWriter, r *http.Request, c call) {
	run, err := h.findRun(r, c.vars[0], adminRunPattern)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, run.Record())
}
