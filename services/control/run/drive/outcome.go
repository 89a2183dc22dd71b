package drive

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// Reasons of failures of what was carried out, or could not be.
const (
	ReasonExitCode    = "exit_code"
	ReasonResult      = "result_invalid"
	ReasonStatus      = "http_status"
	ReasonRefused     = "http_refused"     // the request is one that is not made
	ReasonUnreachable = "http_unreachable" // nothing was sent
	ReasonUnanswered  = "http_unanswered"  // there is no whole answer to a request that may be repeated
	ReasonText        = "not_text"         // what the step came to is no text
	ReasonArguments   = "arguments_invalid"
	ReasonTool        = "tool_failed"
	ReasonLost        = "output_lost"        // the step was carried out, and a part of its output is gone
	ReasonInterrupted = "interrupted"        // nobody saw the end of what may be done again
	ReasonUnconfirmed = "cancel_unconfirmed" // something of a cancelled step may go on
)

// maxWords bounds what a failure repeats of an output, in bytes.
const maxWords = 500

// Ran is the outcome of a command that has ended by itself.
func Ran(do *workflow.Shell, stdout, stderr string, exit int) Outcome {
	ok := do.ExitCodes
	if len(ok) == 0 {
		ok = []int{0}
	}
	if !slices.Contains(ok, exit) {
		return failed(ReasonExitCode, fmt.Sprintf("the command ended with %d%s", exit, words(stderr, stdout)))
	}
	out := map[string]any{"stdout": stdout, "stderr": stderr, "exit_code": exit}
	return completed(out, do.Result, stdout, "stdout")
}

// Fetched is the outcome of a request that was answered. The names of headers are in lower case.
func Fetched(do *workflow.HTTP, status int, headers map[string]string, body string) Outcome {
	fine := status >= 200 && status < 300
	if len(do.OK) > 0 {
		fine = slices.Contains(do.OK, status)
	}
	if !fine {
		return failed(ReasonStatus, fmt.Sprintf("the answer is %d %s%s", status, http.StatusText(status), words(body)))
	}
	out := map[string]any{"status_code": status, "headers": headers, "body": body}
	return completed(out, do.Result, body, "the body")
}

// WasRead is the outcome of a file that was read.
func WasRead(do *workflow.Read, content, sha256 string) Outcome {
	out := map[string]any{"content": content, "sha256": sha256, "size": len(content)}
	return completed(out, do.Result, content, "the content")
}

// WasWritten is the outcome of a file that was written.
func WasWritten(path, sha256 string, size int) Outcome {
	return Outcome{State: step.Completed, Output: map[string]any{"path": path, "sha256": sha256, "size": size}}
}

// Answered is the outcome of a call of a tool that has answered. data is the answer as JSON, if the tool gives that
// beside the text; "" is none.
func Answered(do *workflow.Call, text, data string) Outcome {
	return completed(map[string]any{"text": text}, do.Result, cmp.Or(data, text), "the answer")
}

// Said is the outcome of an agent that has worked, for a step that wants a result, or nil. data is the result; nil is
// none.
func Said(wants *workflow.Schema, text, session string, usage model.Usage, data json.RawMessage) Outcome {
	out := map[string]any{
		"text": text, "session": session, "usage": map[string]any{
			"input": usage.Input, "output": usage.Output, "cost_usd": usage.Cost.Total(),
		},
	}
	return given(out, wants, data)
}

// Dispatched is the outcome of a message that was accepted, as a submission.
func Dispatched(submission string) Outcome {
	return Outcome{State: step.Completed, Output: map[string]any{"submission": submission}}
}

// Replied is the outcome of a message that an agent has answered. data is the result; nil is none.
func Replied(do *workflow.Dispatch, submission, text string, data json.RawMessage) Outcome {
	return given(map[string]any{"submission": submission, "text": text}, do.Result, data)
}

// Started is the outcome of another run that nobody waits for.
func Started(run string) Outcome {
	return Outcome{State: step.Completed, Output: map[string]any{"run": run}}
}

// Returned is the outcome of another run that has completed. output is JSON; nil is none.
func Returned(run string, output json.RawMessage) Outcome {
	out := map[string]any{"run": run, "output": nil}
	if output != nil {
		v, err := Decode(output)
		if err != nil {
			return failed(ReasonResult, "the run's output is not JSON: "+err.Error())
		}
		out["output"] = v
	}
	return Outcome{State: step.Completed, Output: out}
}

// given is an outcome with the result of an agent, if the step wants one.
func given(out map[string]any, wants *workflow.Schema, data json.RawMessage) Outcome {
	if wants != nil && data == nil {
		return failed(ReasonResult, "the agent has ended without a result")
	}
	return completed(out, wants, string(data), "the result")
}

// completed is an outcome with a result, if the step wants one: text is JSON then, and what names it.
func completed(out map[string]any, s *workflow.Schema, text, what string) Outcome {
	if s == nil {
		return Outcome{State: step.Completed, Output: out}
	}
	if _, err := Decode(json.RawMessage(text)); err != nil {
		return failed(ReasonResult, fmt.Sprintf("%s is not JSON: %v%s", what, err, words(text)))
	}
	filled, problems := s.Fill(json.RawMessage(text)) // expressions rely on the defaults
	if len(problems) > 0 {
		return failed(ReasonResult, what+" is not what result describes: "+strings.Join(problems, "; "))
	}
	v, err := Decode(filled)
	if err != nil {
		return failed(ReasonResult, what+" cannot be read with the defaults of result: "+err.Error())
	}
	out["result"] = v
	return Outcome{State: step.Completed, Output: out}
}

// late is the failure of a step that was cancelled because its time was over, which has ended with f.
func late(f *step.Failure) step.Failure {
	l := step.Failure{Reason: ReasonTimeout, Message: "the step took longer than its timeout"}
	if f != nil && f.Reason == ReasonUnconfirmed {
		l.Message += ": " + f.Message
	}
	return l
}

func failed(reason, message string) Outcome {
	return Outcome{State: step.Failed, Failed: &step.Failure{Reason: reason, Message: message}}
}

// words are the last ones of the first text that has any, to be put behind a sentence.
func words(texts ...string) string {
	for _, t := range texts {
		t = strings.TrimSpace(t)
		if t == "" {
			continue
		}
		if len(t) > maxWords {
			t = "… " + strings.ToValidUTF8(t[len(t)-maxWords:], "")
		}
		return ": " + t
	}
	return ""
}

// Received is the outcome of a signal that has come.
func Received(do *workflow.Signal, s step.Signal) Outcome {
	body := string(s.Body)
	if body == "" {
		body = "null"
	}
	out := map[string]any{"received": true, "at": s.At.UTC().Format(time.RFC3339Nano)}
	return completed(out, do.Result, body, "the signal")
}
