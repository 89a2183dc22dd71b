package tool

import (
	"context"
	"encoding/json"
	"log/slog"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/errs"
)

// Kind is by whom a call is carried out. The numbers are those of the calls' rows.
type Kind uint8

// Kinds of calls.
const (
	KindExecutor Kind = iota + 1 // a verb of the session's executor
	KindTask                     // a loop in the lane of the loop that asks: a sub-agent
	KindControl                  // a function of this process
	KindCode                     // code that the workspace brings along
)

var kindNames = [...]string{KindExecutor: "executor", KindTask: "task", KindControl: "control", KindCode: "code"}

// String is the word used in logs.
func (k Kind) String() string { return nameOf(kindNames[:], uint8(k)) }

// nameOf is the name of a number that is an index of names.
func nameOf(names []string, n uint8) string {
	if int(n) >= len(names) || names[n] == "" {
		return "unspecified"
	}
	return names[n]
}

// Request is what a call asks for, by value: a struct whose JSON has the tool's arguments by name. If it has a method
// Problems() []string, that says what is wrong that a schema cannot say, one line each, for the model to read.
type Request any

// How is how calls of a tool are carried out, and the types of its requests and replies. Its zero value is none.
type How struct {
	kind   Kind
	parse  func(args []byte) (Request, error)
	makes  bool // the request is made of the arguments, and does not have them by name
	check  func(Request) []string
	decode func(body []byte) (Reply, error)
	fits   func(Request, Reply) bool // whether render shows it
	render func(Request, Reply) (Result, bool)
	run    Run
}

// Run carries out a call in this process. It may be called concurrently, and should return soon after ctx ends. An
// error that carries a reason (package errs) is told to the model as it is; of any other the model hears that the tool
// failed, and the log has the rest. Output is cleaned and bounded by the caller.
type Run func(ctx context.Context, c Call) (Reply, error)

// ByExecutor has calls carried out by the session's executor, which answers a Q with an R or a Failure. The arguments
// are decoded into Q, as JSON; render shows an R to the model. link encodes requests by their type, so Q is one of the
// verbs of this package.
func ByExecutor[Q Request, R Reply](render func(Q, R) Result) How { return typed(KindExecutor, render) }

// ByCommand has calls carried out as commands of the session's executor. line makes one of the arguments, which are
// JSON; its error is told to the model. render shows what it came to.
func ByCommand(line func(args []byte) (Exec, error), render func(Exec, ExecReply) Result) How {
	h := typed(KindExecutor, render)
	h.parse, h.makes = func(args []byte) (Request, error) { return line(args) }, true
	return h
}

// ByLoop has calls carried out by a loop of another agent, in the lane of the one that asks.
func ByLoop[Q Request, R Reply](render func(Q, R) Result) How { return typed(KindTask, render) }

// ByControl has calls carried out by a function of this process. Their rows are pending until run has returned: see
// Call.Run and Call.RunAgain.
func ByControl[Q Request, R Reply](run Run, render func(Q, R) Result) How {
	h := typed(KindControl, render)
	h.run = run
	return h
}

func typed[Q Request, R Reply](kind Kind, render func(Q, R) Result) How {
	return How{
		kind: kind,
		parse: func(args []byte) (Request, error) {
			var q Q
			err := json.Unmarshal(args, &q)
			return q, err
		},
		decode: decodeReply[R],
		fits: func(req Request, reply Reply) bool {
			_, asked := req.(Q)
			_, answered := reply.(R)
			return asked && answered
		},
		render: func(req Request, reply Reply) (Result, bool) {
			q, asked := req.(Q)
			r, answered := reply.(R)
			if !asked || !answered {
				return Result{}, false
			}
			return render(q, r), true
		},
	}
}

// errFailed is what a model hears of an error that is for the log only.
var errFailed = errs.New(errs.Internal, "INTERNAL", "the tool failed for a reason of its own; trying again may help")

// Run carries out a call of KindControl, whose row is committed as pending before. The reply is to be committed as the
// call's outcome, like any other. Whatever the function does, a panic included, becomes a reply. The only error is that
// of ctx, when it ended before the function had an outcome: what the call has done is unknown then, and its row stays
// pending for the next owner, or is ended with what is known.
func (c Call) Run(ctx context.Context, log *slog.Logger) (reply Reply, err error) {
	err = contain.Do(func() (err error) {
		reply, err = c.Tool.How.run(ctx, c)
		return err
	})
	if err == nil && reply != nil {
		return reply, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	e, public := errs.Public(err)
	if !public {
		log.ErrorContext(ctx, "a tool of control failed", "call_id", c.ID, "tool", c.Tool.Name, "error", err)
		e = errFailed
	}
	return Failure{Reason: e.Reason(), Message: e.Error()}, nil
}

// RunAgain is Run of a call whose row a new owner has found pending: its function may have run, or be running in a
// process that does not know yet that it has lost the lane. One that must run at most once is lost; others run again.
func (c Call) RunAgain(ctx context.Context, log *slog.Logger) (Reply, error) {
	if c.Tool.Safety == AtMostOnce {
		return Failure{Reason: ReasonInterrupted, Message: "the control plane stopped while the call ran"}, nil
	}
	return c.Run(ctx, log)
}
