package turn

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/session"
)

// Reasons for which a call waits, see event.Wait.
const (
	waitNoExecutor = "NO_EXECUTOR"
	waitAway       = "EXECUTOR_AWAY"
	waitGone       = "EXECUTOR_GONE"
	waitBusy       = "EXECUTOR_BUSY"
	waitDraining   = "EXECUTOR_DRAINING"
)

// unplaced is why a call that no executor has waits. e is the executor of the session's workspace, zero when there
// is none; known is false when the control plane has no record of it.
func (t *Strand) unplaced(since time.Time, e fleet.Executor, known bool) event.Wait {
	bound := t.Needs().Executor
	w := event.Wait{
		Executor: bound,
		Labels:   t.wanted().Labels,
		Since:    since,
		Until:    since.Add(t.lane.deps.DisconnectGrace),
	}
	switch {
	case bound == "":
		w.Reason, w.Message = waitNoExecutor, noExecutor(t.kit.Sandbox, t.wanted().Tenant)
	case !known:
		w.Reason = waitGone
		w.Message = fmt.Sprintf(
			"executor %s, which has this session's files, is not known any more: its files are gone with it; "+
				"prompt another session of the agent, or start an executor %[1]s with the files again",
			bound,
		)
	default:
		w.Reason = waitAway
		w.Message = fmt.Sprintf(
			"executor %s, which has this session's files, is not connected%s: start it again where it was, "+
				"or prompt another session of the agent",
			bound,
			lastSeen(e),
		)
	}
	return w
}

// noExecutor says what would run the calls of an agent for a tenant. It does not depend on what other tenants have.
func noExecutor(s agent.Sandbox, tenant string) string {
	if tenant != session.DefaultTenant {
		return fmt.Sprintf("no executor%s serves the tenant %s now: start one with the token of `control token create "+
			"--executor NAME --tenant %[2]s`, or of one with --shared; without isolation, as the built-in one is, "+
			"a shared executor serves other tenants with `control --allow-shared-none` only", labelled(s), tenant)
	}
	if s.Kind != agent.SandboxExecutor {
		return "no executor is connected: start one with the token of `control token create --executor NAME`, " +
			"or start `control` with its built-in one"
	}
	var flags []string
	for _, k := range slices.Sorted(maps.Keys(s.Labels)) {
		flags = append(flags, "--label "+k+"="+s.Labels[k])
	}
	return fmt.Sprintf("no executor%s takes new calls: start one with %s", labelled(s), strings.Join(flags, " "))
}

// labelled says which labels an agent wants.
func labelled(s agent.Sandbox) string {
	if len(s.Labels) == 0 {
		return ""
	}
	var have []string
	for _, k := range slices.Sorted(maps.Keys(s.Labels)) {
		have = append(have, k+"="+s.Labels[k])
	}
	return " with the labels " + strings.Join(have, ", ")
}

func lastSeen(e fleet.Executor) string {
	if e.LastSeen.IsZero() {
		return ""
	}
	return " (last seen " + e.LastSeen.UTC().Format("2006-01-02 15:04:05 UTC") + ")"
}

// cutOff is why a call whose executor is away waits.
func (t *Strand) cutOff(c call.Call, away time.Time) event.Wait {
	return event.Wait{
		Reason:   waitAway,
		Executor: c.Executor,
		Since:    away,
		Until:    away.Add(t.lane.deps.DisconnectGrace),
		Message: fmt.Sprintf(
			"executor %s, which runs this call, is not connected: the call goes on there, and its result arrives "+
				"when the executor is back",
			c.Executor,
		),
	}
}

// refusedFor is why a call waits that its executor does not take now.
func refusedFor(c call.Call, a call.Action) event.Wait {
	w := event.Wait{Reason: waitBusy, Executor: c.Executor, Since: time.Now(), Message: a.Why.Message}
	if a.Why.Reason == "DRAINING" {
		w.Reason = waitDraining
	}
	return w
}

// waits tells watchers that a call waits, once for each reason. The event is committed with the next step or flush.
func (t *Strand) waits(c *Call, w event.Wait) {
	if c.waits == w.Reason {
		return
	}
	c.waits = w.Reason
	t.Push(t.Event(waiting(c.Call, w)))
}

func waiting(c call.Call, w event.Wait) event.Event {
	return event.Event{
		Type: event.ToolWaiting,
		Call: &event.Call{ID: c.ID, ProviderID: c.ProviderID, Tool: c.Tool},
		Wait: &w,
	}
}

// resumes tells watchers that a call which waited for its executor runs on: a piece of output without data says so.
func (t *Strand) resumes(c *Call) {
	if c.waits == "" {
		return
	}
	c.waits = ""
	t.Push(t.outputOf(c.ID, event.Output{Offset: c.output.end(0)}))
}
