package ask

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/run/drive"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// maxWhy bounds what is said of a failure, in bytes.
const maxWhy = 4096

// unconfirmed is said of a command that was made to end.
const unconfirmed = "it could not be confirmed that all of its processes have ended"

// Outcome is what the call of a step came to. request is what Of made it of, reply one without secrets.
func Outcome(request any, c tool.Call, reply tool.Reply) drive.Outcome {
	if reply == nil || !c.Fits(reply) {
		return unseen(c, "what the call has answered is no answer to it")
	}
	if f, ok := reply.(tool.Failure); ok {
		return refused(c, f)
	}
	switch q := request.(type) {
	case drive.Shell:
		if r, ok := reply.(tool.ExecReply); ok {
			return ran(q.Step, r)
		}
	case drive.Read:
		if r, ok := reply.(tool.FileReply); ok {
			return read(q, r)
		}
	case drive.Write:
		if r, ok := reply.(tool.WriteReply); ok {
			return written(q, r)
		}
	case drive.Call:
		return called(q, c, reply)
	}
	return unseen(c, "what the call has answered is no answer to its step")
}

// refused is the outcome of a call that was not carried out, or of which nobody knows that it was.
func refused(c tool.Call, f tool.Failure) drive.Outcome {
	switch f.Reason {
	case tool.ReasonInterrupted:
		return unseen(c, f.Message)
	case tool.ReasonCancelled:
		return Stopped(nil)
	}
	return failed(reason(f.Reason, drive.ReasonTool), tool.Asked{Call: c}.Result(f).Text)
}

// unseen is the outcome of a call whose end nobody saw.
func unseen(c tool.Call, why string) drive.Outcome {
	if why = strings.TrimSpace(clip.Shorten(clip.Sanitize(why), maxWhy)); why == "" {
		why = "nobody saw the call end"
	}
	if c.Tool.Safety == tool.AtMostOnce {
		return drive.Outcome{State: step.Unknown, Failed: &step.Failure{Reason: drive.ReasonUnknown, Message: why}}
	}
	return failed(drive.ReasonInterrupted, why)
}

// Stopped is the outcome of what was made to end before it was done. c is what is known of calls within it; nil is that
// there are none.
func Stopped(c *call.Cancellation) drive.Outcome {
	f := step.Failure{Reason: drive.ReasonCancelled, Message: "it was cancelled"}
	if c != nil && !c.Confirmed {
		f.Reason = drive.ReasonUnconfirmed
		if len(c.Unconfirmed) > 0 {
			f.Message += c.Words()
		}
	}
	return drive.Outcome{State: step.Cancelled, Failed: &f}
}

// ended is the outcome of a command that did not end well by itself; ok is false for one that did.
func ended(codes []int, r tool.ExecReply) (o drive.Outcome, ok bool) {
	o = drive.Outcome{State: step.Cancelled}
	switch {
	case r.Cancelled && !r.Confirmed:
		o.Failed = &step.Failure{
			Reason: drive.ReasonUnconfirmed, Message: "the command was cancelled, and " + unconfirmed,
		}
	case r.Cancelled:
		o = Stopped(nil)
	case r.TimedOut && !r.Confirmed:
		o = failed(drive.ReasonTimeout, "the command took too long, and "+unconfirmed)
	case r.TimedOut:
		o = failed(drive.ReasonTimeout, "the command took too long")
	case !succeeds(codes, r.ExitCode):
		do := &workflow.Shell{ExitCodes: codes}
		o = drive.Ran(do, text(r.Stdout), text(r.Stderr), r.ExitCode)
	default:
		return drive.Outcome{}, false
	}
	return o, true
}

// lacks is the outcome of a command whose output is not all there; ok is false if it is.
func lacks(r tool.ExecReply) (o drive.Outcome, ok bool) {
	if r.Whole {
		return o, false
	}
	for _, c := range []tool.Captured{r.Stdout, r.Stderr} {
		if c.Error != "" {
			return failed(drive.ReasonLost, fmt.Sprintf("the command has ended with %d, and its output is not "+
				"complete: %s", r.ExitCode, clip.Shorten(clip.Sanitize(c.Error), maxWhy))), true
		}
	}
	n := size(r.Stdout) + size(r.Stderr)
	if n > tool.MaxWhole {
		return failed(drive.ReasonTooLarge, fmt.Sprintf("the command has ended with %d, and has written %d bytes, of "+
			"which at most %d can be kept: write it to a file", r.ExitCode, n, tool.MaxWhole)), true
	}
	return failed(drive.ReasonLost, fmt.Sprintf("the command has ended with %d, and its executor has not kept all of "+
		"its output: it may be of an older version", r.ExitCode)), true
}

func size(c tool.Captured) int64 {
	return max(c.Size, int64(len(c.Head)+len(c.Tail))+c.Cut)
}

// text is what is there of a stream, for people.
func text(c tool.Captured) string {
	all := string(c.Head)
	if c.Cut > 0 {
		all += " … "
	}
	return strings.ToValidUTF8(all+string(c.Tail), "\ufffd")
}

// noText is the outcome of what came to bytes that are no text.
func noText(what string, n int) drive.Outcome {
	return failed(drive.ReasonText, fmt.Sprintf("%s has %d bytes that are no UTF-8 text", what, n))
}

func ran(do *workflow.Shell, r tool.ExecReply) drive.Outcome {
	if o, bad := ended(do.ExitCodes, r); bad {
		return o
	}
	if o, bad := lacks(r); bad {
		return o
	}
	if !utf8.Valid(r.Stdout.Head) {
		return noText("standard output", len(r.Stdout.Head))
	}
	return drive.Ran(do, string(r.Stdout.Head), text(r.Stderr), r.ExitCode)
}

func read(q drive.Read, r tool.FileReply) drive.Outcome {
	if !utf8.Valid(r.Content) {
		return noText(clip.Display(q.Path), len(r.Content))
	}
	return drive.WasRead(q.Step, string(r.Content), hex.EncodeToString(r.SHA256))
}

func written(q drive.Write, r tool.WriteReply) drive.Outcome {
	sum := r.SHA256
	if len(sum) == 0 { // of an executor of an older version
		of := sha256.Sum256([]byte(q.Content))
		sum = of[:]
	}
	return drive.WasWritten(q.Path, hex.EncodeToString(sum), len(q.Content))
}

// called is what a tool has answered, in words, and as JSON where it gives that beside them.
func called(q drive.Call, c tool.Call, reply tool.Reply) drive.Outcome {
	if r, command := reply.(tool.ExecReply); command {
		if o, bad := ended(nil, r); bad {
			return o
		}
		if x, ok := c.Request.(tool.Exec); ok && !x.Image {
			return spoke(q.Step, r)
		}
	}
	shown := tool.Asked{Call: c}.Result(reply)
	if shown.IsError {
		return failed(drive.ReasonTool, clip.Shorten(shown.Text, maxWhy))
	}
	if r, ok := reply.(tool.ServerReply); ok && r.Left > 0 {
		return failed(drive.ReasonTooLarge, fmt.Sprintf("%d bytes of the answer are more than what is kept of one: "+
			"ask for less", r.Left))
	}
	if w, ok := reply.(tool.Worded); ok {
		said, data := w.Words()
		return drive.Answered(q.Step, said, data)
	}
	return drive.Answered(q.Step, shown.Text, "")
}

// spoke is what a tool has answered that is a command which has succeeded: what that has written.
func spoke(do *workflow.Call, r tool.ExecReply) drive.Outcome {
	if o, bad := lacks(r); bad {
		return o
	}
	if !utf8.Valid(r.Stdout.Head) {
		return noText("standard output", len(r.Stdout.Head))
	}
	return drive.Answered(do, string(r.Stdout.Head), "")
}

func failed(reason, message string) drive.Outcome {
	return drive.Outcome{State: step.Failed, Failed: &step.Failure{Reason: reason, Message: message}}
}
