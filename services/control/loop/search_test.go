package loop_test

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
)

// Models are offered their provider's search by agents that say so, and by no others.
func TestAgentsThatSearchOfferTheSearch(t *testing.T) {
	for _, search := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			def := agent.Shell()
			def.Model, def.Search = first, search
			m := modeltest.New(modeltest.Say("done"))
			b := newBench(t, def)
			b.die()
			b.models = map[model.Ref]model.Model{first: m}
			b.start(def)
			b.expect(b.wait(b.submit("s", "go").ID), lane.Completed, "done")
			offered := slices.ContainsFunc(m.Requests()[0].Tools, func(tool model.Tool) bool { return tool.Hosted })
			if offered != search {
				t.Errorf("search: %v, offered: %v", search, offered)
			}
		})
	}
}
