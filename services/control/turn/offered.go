package turn

import (
	"fmt"
	"slices"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// demands is the tool that an executor has to offer for a call, "" for a call that any executor can carry out.
func (t *Strand) demands(c call.Call) string {
	if slices.Contains(t.kit.Demands, c.Tool) {
		return c.Tool
	}
	return ""
}

// demanded are the tools that some calls demand, and whether there are calls that demand none.
func (t *Strand) demanded(calls []call.Call) (names []string, others bool) {
	for _, c := range calls {
		switch name := t.demands(c); {
		case c.Kind != uint8(tool.KindExecutor) || c.Approval != "":
		case name == "":
			others = true
		default:
			names = append(names, name)
		}
	}
	return names, others
}

// has reports whether an executor has what a call demands.
func (t *Strand) has(e fleet.Executor, c call.Call) bool {
	name := t.demands(c)
	_, offers := e.Offers(name)
	return name == "" || offers
}

// notOffered is what a model hears of a call whose tool the executor of the session does not offer any more.
func notOffered(e fleet.Executor, name string) tool.Failure {
	return tool.Failure{Reason: "TOOL_NOT_OFFERED", Message: fmt.Sprintf("The call was not made, and nothing has "+
		"happened: the executor of this session, %s, does not offer %s any more.", e.ID, name)}
}
