package workflow

import (
	"cel.dev/cel-go/common/types"

	"github.com/pawl-dev/pawl/services/control/model"
)

func unknown(to *OnUnknown) Option {
	return Option{
		Name: "on_unknown", Doc: "How to go on when nobody knows whether the step has had its effect.",
		Form: words(to, UnknownFail, UnknownRetry, UnknownContinue),
	}
}

func safety(to *Safety) Option {
	return Option{
		Name: "safety", Doc: "Whether the step may run again when its outcome is not known.",
		Form: words(to, Pure, Idempotent, AtMostOnce),
	}
}

func resulting(to **Schema, doc string) Option {
	return Option{Name: "result", Doc: doc, Form: schema(to)}
}

func ofAgent(to *string) Option {
	return Option{Name: "agent", Doc: "Whose; the workflow's agent if there is none.", Form: agentName(to)}
}

const resultDoc = "JSON Schema of the structured result that the agent has to end with."

// resultOf is the output that a result schema describes.
var resultOf = Output{Name: "result", Of: "of the schema in `result`", Doc: "if the step has `result`"}

func (s *Shell) options() []Option {
	return []Option{
		{Name: "shell", Doc: "The command. It has no expressions: pass values by `env`.", Form: line(&s.Command)},
		{Name: "env", Doc: "Variables of the command; `secrets.NAME` can be used.", Form: texts(&s.Env, true)},
		{Name: "cwd", Doc: "Directory in which it runs.", Form: text(&s.Cwd)},
		{Name: "stdin", Doc: "What it reads.", Form: text(&s.Stdin)},
		{
			Name: "exit_codes", Doc: "Codes that count as success; 0 if there are none.",
			Form: counts(&s.ExitCodes, 0, 255),
		},
		{Name: "sandbox", Doc: "Where it runs, if not in the workflow's sandbox.", Form: sandbox(&s.Sandbox)},
		safety(&s.Safety), unknown(&s.OnUnknown), resulting(&s.Result, "JSON Schema of stdout, which is JSON then."),
	}
}

func (s *Shell) outputs() []Output {
	return []Output{
		{Name: "stdout", Type: types.StringType},
		{Name: "stderr", Type: types.StringType},
		{Name: "exit_code", Type: types.IntType},
		resultOf,
	}
}

func (p *Prompt) options() []Option {
	return []Option{
		{Name: "prompt", Doc: "The message.", Form: text(&p.Text)},
		ofAgent(&p.Agent),
		{Name: "session", Doc: "Steps with the same session share a conversation.", Form: text(&p.Session)},
		{Name: "images", Doc: "List of images: paths in the sandbox.", Form: value(&p.Images)},
		{
			Name: "data", Doc: "What the agent is given beside the message, told apart from instructions.",
			Form: value(&p.Data),
		},
		{Name: "model", Doc: "Another model than the agent's: provider/id.", Form: modelName(&p.Model)},
		{Name: "thinking", Doc: "How much the model thinks.", Form: words(&p.Thinking, model.ThinkingOff,
			model.ThinkingMinimal, model.ThinkingLow, model.ThinkingMedium, model.ThinkingHigh, model.ThinkingXHigh)},
		{Name: "limits", Doc: "What the agent may use.", Form: mapping("limits", p.Limits.options())},
		resulting(&p.Result, resultDoc),
	}
}

// said is what expressions see of an agent that has worked.
func said() []Output {
	return []Output{
		{Name: "text", Type: types.StringType, Doc: "what the agent said last"},
		{Name: "session", Type: types.StringType},
		{Name: "usage", Of: "{input, output: int, cost_usd: double}"},
		resultOf,
	}
}

func (*Prompt) outputs() []Output { return said() }

func (s *Skill) options() []Option {
	return []Option{
		{Name: "skill", Doc: "Name of the skill.", Form: skillName(&s.Name)},
		ofAgent(&s.Agent),
		{Name: "session", Doc: "Steps with the same session share a conversation.", Form: text(&s.Session)},
		{Name: "args", Doc: "What the skill is given.", Form: text(&s.Args)},
		resulting(&s.Result, resultDoc),
	}
}

func (*Skill) outputs() []Output { return said() }

func (r *Read) options() []Option {
	return []Option{
		{Name: "read", Doc: "Path of the file.", Form: text(&r.Path)},
		resulting(&r.Result, "JSON Schema of the content, which is JSON then."),
	}
}

func (*Read) outputs() []Output {
	return []Output{
		{Name: "content", Type: types.StringType},
		{Name: "sha256", Type: types.StringType},
		{Name: "size", Type: types.IntType, Doc: "in bytes"},
		resultOf,
	}
}

func (w *Write) options() []Option {
	return []Option{
		{Name: "write", Doc: "Path of the file.", Form: text(&w.Path)},
		required(Option{Name: "content", Doc: "What it has then.", Form: text(&w.Content)}),
		{Name: "mode", Doc: `Its mode, such as "0755"; "0644" if there is none.`, Form: fileMode(&w.Mode)},
	}
}

func (*Write) outputs() []Output {
	return []Output{
		{Name: "path", Type: types.StringType},
		{Name: "sha256", Type: types.StringType},
		{Name: "size", Type: types.IntType, Doc: "in bytes"},
	}
}

func (c *Call) options() []Option {
	return []Option{
		{Name: "call", Doc: "Name of the tool.", Form: toolName(&c.Tool)},
		{Name: "with", Doc: "Its arguments.", Form: value(&c.With)},
		ofAgent(&c.Agent), unknown(&c.OnUnknown),
		resulting(&c.Result, "JSON Schema of the answer, which is JSON then."),
	}
}

func (*Call) outputs() []Output {
	return []Output{{Name: "text", Type: types.StringType, Doc: "what the tool answered"}, resultOf}
}

func (d *Dispatch) options() []Option {
	return []Option{
		{Name: "dispatch", Doc: "Name of the agent.", Form: agentName(&d.Agent)},
		{Name: "instance", Doc: "Instance of the agent; the run's id if there is none.", Form: text(&d.Instance)},
		{Name: "session", Doc: "Session of the instance; default if there is none.", Form: text(&d.Session)},
		required(Option{Name: "message", Doc: "The message.", Form: text(&d.Message)}),
		{Name: "wait", Doc: "Whether the step waits for the answer.", Form: boolean(&d.Wait)},
		{
			Name: "when_busy", Doc: "What becomes of the message when the session is at work.",
			Form: words(&d.WhenBusy, BusyQueue, BusySteer, BusyInterrupt),
		},
		resulting(&d.Result, "JSON Schema of the result; needs wait: true."),
	}
}

func (*Dispatch) outputs() []Output {
	return []Output{
		{Name: "submission", Type: types.StringType},
		{Name: "text", Of: "string", Doc: "if `wait` is true"},
		{Name: "result", Of: resultOf.Of, Doc: "if the step has `result`"},
	}
}

func (h *HTTP) options() []Option {
	return []Option{
		{Name: "http", Doc: "The URL.", Form: text(&h.URL)},
		{
			Name: "method", Doc: "GET if there is none.",
			Form: words(&h.Method, "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
		},
		{Name: "headers", Doc: "Of the request; `secrets.NAME` can be used.", Form: texts(&h.Headers, true)},
		{Name: "body", Doc: "A text as it is, anything else as JSON.", Form: value(&h.Body)},
		{
			Name: "ok", Doc: "Status codes that count as success; 200 to 299 if there are none.",
			Form: counts(&h.OK, 100, 599),
		},
		safety(&h.Safety), unknown(&h.OnUnknown), resulting(&h.Result, "JSON Schema of the body, which is JSON then."),
	}
}

func (*HTTP) outputs() []Output {
	return []Output{
		{Name: "status_code", Type: types.IntType},
		{
			Name: "headers", Type: types.NewMapType(types.StringType, types.StringType), Of: "map of strings",
			Doc: "names in lower case",
		},
		{Name: "body", Type: types.StringType},
		resultOf,
	}
}

func (s *Sleep) options() []Option {
	return []Option{{
		Name: "sleep", Doc: "How long, or an expression that is a duration or a timestamp.", Form: pause(&s.For),
	}}
}

func (*Sleep) outputs() []Output {
	return []Output{{Name: "at", Type: types.TimestampType, Doc: "when it ended"}}
}

func (s *Signal) options() []Option {
	return []Option{
		{
			Name: "signal", Doc: "Name of the signal.",
			Form: name(&s.Name, "a signal's name: letters, digits, _, - and .", isSignal),
		},
		resulting(&s.Result, "JSON Schema of what the signal brings."),
	}
}

func (*Signal) outputs() []Output {
	return []Output{
		{Name: "received", Type: types.BoolType, Doc: "false after the timeout"},
		{Name: "at", Type: types.TimestampType},
		{Name: "result", Of: resultOf.Of, Doc: resultOf.Doc, Absent: "with a timeout, the signal may not have come"},
	}
}

func (a *Approve) options() []Option {
	return []Option{
		{Name: "approve", Doc: "What is asked.", Form: text(&a.Text)},
		{Name: "details", Doc: "What helps to decide.", Form: value(&a.Details)},
		{
			Name: "to", Doc: "Who may decide, such as role:admin; role:approver if there is nobody.",
			Form: list(&a.To, "somebody who decides, such as role:admin or team:platform", "", isDecider),
		},
		{
			Name: "on_timeout", Doc: "What it stands for when nobody decides within the timeout. Without it, " +
				"`decision` is timeout.",
			Form: words(&a.OnTimeout, TimeoutReject, TimeoutApprove, TimeoutFail),
		},
	}
}

func (*Approve) outputs() []Output {
	const nobody = "nobody may have decided"
	return []Output{
		{Name: "decision", Type: types.StringType, Words: []string{"approved", "rejected", "timeout"}},
		{Name: "by", Type: types.StringType, Absent: nobody},
		{Name: "comment", Type: types.StringType, Absent: nobody},
		{Name: "at", Type: types.TimestampType},
	}
}

func (w *Workflow) options() []Option {
	return []Option{
		{Name: "workflow", Doc: "Name of the workflow.", Form: name(&w.Name, nameRule, ValidName)},
		{Name: "with", Doc: "Its input.", Form: value(&w.With)},
		{
			Name: "wait", Doc: "Whether the step waits for its end. It does if there is no `wait`.",
			Form: boolean(&w.Wait),
		},
		{Name: "key", Doc: "Idempotency key: the same key is the same run.", Form: text(&w.Key)},
		{
			Name: "on_cancel", Doc: "What becomes of it when this run is cancelled.",
			Form: words(&w.OnCancel, CancelChild, LeaveChild),
		},
	}
}

func (*Workflow) outputs() []Output {
	return []Output{
		{Name: "run", Type: types.StringType, Doc: "id of the run"},
		{Name: "output", Of: "of its output", Doc: "unless `wait` is false"},
	}
}

func (l *Log) options() []Option {
	return []Option{
		{Name: "log", Doc: "The line.", Form: text(&l.Text)},
		{Name: "level", Doc: "info if there is none.", Form: words(&l.Level, Info, Warn, Error)},
		{Name: "data", Doc: "What belongs to it.", Form: value(&l.Data)},
	}
}

func (*Log) outputs() []Output { return nil }

func (f *Fail) options() []Option {
	return []Option{
		{Name: "fail", Doc: "Why.", Form: text(&f.Text)},
		{Name: "reason", Doc: "A word for programs; failed if there is none.", Form: name(&f.Reason,
			"a reason: lower-case letters, digits and _", isWord)},
	}
}

func (*Fail) outputs() []Output { return nil }
