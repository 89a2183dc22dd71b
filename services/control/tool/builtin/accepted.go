package builtin

import (
	"sync"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// all are the built-in tools with the task, which nobody is offered as it is.
var all = sync.OnceValue(func() tool.Set {
	set, err := Tools().With(defined())
	if err != nil {
		panic(err) // the names are constants: any test finds this
	}
	return set
})

// Accepted is a call of a block that was accepted by a loop which is not offered its tool now. A call of a built-in
// tool is what it was: these do not depend on the loop. Any other one is tool.Accepted.
func Accepted(b model.Block, kind tool.Kind, safety tool.Safety) tool.Asked {
	c, err := all().Parse(0, b)
	if err == nil && c.Tool.Kind() == kind && c.Tool.Safety == safety {
		return tool.Asked{Block: b, Call: c}
	}
	return tool.Accepted(b, kind, safety, RenderExec)
}
