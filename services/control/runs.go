package control

import (
	"github.com/pawl-dev/pawl/services/control/gateway/runs"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/run/fetch"
	"github.com/pawl-dev/pawl/services/control/run/runner"
	"github.com/pawl-dev/pawl/services/control/run/scheduler"
)

// makeAttempts makes what carries runs out. makeRuns must follow.
func (p *plane) makeAttempts(agents agentPins) {
	p.attempts = runner.New(runner.Deps{
		Store: p.Store, Calls: p.loops.Calls(), Workflows: p.pinned, Agents: agents, Loops: p.loops,
		HTTP: fetch.New(p.HTTPHosts, p.Egress), Lookup: p.Lookup,
	})
}

// flows are workflows as the compatible routes have them.
func (p *plane) flows() *runs.Service {
	return runs.New(runs.Deps{Definitions: p.Workflows, Runs: p.runs, API: func(ref model.Ref) model.API {
		m, err := p.Models.Model(ref)
		if err != nil {
			return "" // it cannot be asked
		}
		return m.API()
	}})
}

// makeRuns makes what starts runs, and what does so when they are due.
func (p *plane) makeRuns() {
	p.runs = run.NewService(run.Deps{
		Store: p.Store, Workflows: p.pinned, Events: p.events, Worker: p.worker, Bus: p.bus, Lookup: p.Lookup,
	})
	p.attempts.Connect(p.runs, p.submissions)
	p.schedules = scheduler.NewService(scheduler.Deps{
		Store: p.Store, Runs: p.runs, Workflows: p.Workflows, Log: p.Log,
	})
}
