package control_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/gateway"
	"github.com/pawl-dev/pawl/services/control/gateway/transcode"
)

// naming are things of a session of an agent that nobody has made yet.
func naming(agent string) things {
	of := absent()
	of.Key.Agent = agent
	return of
}

// tellsOfAll reports whether the answer of an RPC differs after each call, as those about runs do, which name no agent,
// or tells operators of the agents of every tenant.
func tellsOfAll(m protoreflect.MethodDescriptor) bool {
	return m.Parent().Name() == "AuditService" || m.Parent().Name() == "RunService" || m.Name() == "ReloadAgents"
}

// An agent of another tenant is as one that there is not, to the byte, in every RPC, on every route and every socket,
// to everybody who has a token. Its own tenant has it.
func TestAgentsOfOtherTenantsAreNotThere(t *testing.T) {
	w := startWalk(t)
	same := func(what, hidden, nobody string) {
		t.Helper()
		if like(strings.ReplaceAll(hidden, "hidden", "nobody")) != like(nobody) {
			t.Errorf("%s: %s\nof an agent that there is not: %s", what, hidden, nobody)
		}
	}
	methods, named := w.methods(t), 0
	for name, c := range w.callers {
		if c.who.Kind == "" || name == "another tenant" {
			continue
		}
		for full, m := range methods {
			if strings.HasSuffix(full, "/Connect") || strings.HasPrefix(full, "grpc.") || tellsOfAll(m) {
				continue
			}
			var told [2]string
			for i, agent := range []string{"hidden", "nobody"} {
				answer, err := w.call(t, c, m, naming(agent))
				told[i] = fmt.Sprint(answer, err)
			}
			if strings.Contains(told[0], `"hidden"`) {
				named++
			}
			same(full+" by "+name, told[0], told[1])
		}
		for _, r := range transcode.Routes() {
			if tellsOfAll(r.RPC) {
				continue
			}
			var told [2]string
			for i, agent := range []string{"hidden", "nobody"} {
				code, body := w.send(t, c, httpRequest(t, r, naming(agent)))
				told[i] = fmt.Sprint(code, body)
			}
			same(r.Method+" "+r.Path+" by "+name, told[0], told[1])
		}
		for _, pattern := range gateway.Patterns() {
			for _, method := range auth.MethodsOf(pattern) {
				var told [2]string
				for i, agent := range []string{"hidden", "nobody"} {
					code, body := w.send(t, c, otherRequest(t, method, strings.Replace(pattern, "{agent}", agent, 1)))
					told[i] = fmt.Sprint(code, body)
				}
				same(method+" "+pattern+" by "+name, told[0], told[1])
			}
		}
	}
	if named == 0 {
		t.Error("no answer names the agent: nothing was asked about it")
	}
	theirs := w.callers["another tenant"]
	list, err := pawlv1.NewAgentServiceClient(w.conn(t, theirs.secret)).ListAgents(t.Context(),
		&pawlv1.ListAgentsRequest{})
	if err != nil || !slices.ContainsFunc(list.GetAgents(), func(a *pawlv1.Agent) bool {
		return a.GetName() == "hidden"
	}) {
		t.Errorf("its own tenant's list: %v, %v", list, err)
	}
	code, body := w.send(t, theirs, otherRequest(t, http.MethodPost, "/agents/hidden/i"))
	if code != http.StatusOK {
		t.Errorf("a prompt of its own tenant: %d %s", code, body)
	}
}
