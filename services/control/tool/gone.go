package tool

import (
	"context"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/model"
)

// errGone is what a model hears of a call whose tool went away before it was carried out.
var errGone = errs.New(errs.FailedPrecondition, "TOOL_GONE", "the tool is not offered any more: the call was not made")

// Shown is a Reply that can be shown to the model without the tool that was called. Replies of tools that can go away
// while a loop works have to be.
type Shown interface {
	Reply
	Show() Result
}

// Accepted is a call of a block that was accepted, and whose tool is not offered any more, or takes such arguments no
// longer. What the call has come to is shown as it is: what it came to as a command, by command.
func Accepted(b model.Block, kind Kind, safety Safety, command func(Exec, ExecReply) Result) Asked {
	how := How{kind: kind, render: func(_ Request, r Reply) (Result, bool) {
		switch r := r.(type) {
		case Shown:
			return r.Show(), true
		case ExecReply:
			return command(Exec{}, r), true
		}
		return Result{}, false
	}}
	how.fits = func(q Request, r Reply) bool { _, ok := how.render(q, r); return ok }
	how.run = func(context.Context, Call) (Reply, error) { return nil, errGone }
	return Asked{Block: b, Call: Call{
		Tool:    &Tool{Spec: Spec{Name: b.Tool, Safety: safety, How: how}},
		Request: CallTool{Tool: b.Tool, Args: b.Args}, // the executor may have the tool yet
		args:    b.Args,
		gone:    true,
	}}
}

// Show implements Shown.
func (a Answer) Show() Result { return RenderAnswer(a, nil) }
