package drive

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

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

// Answered is the outcome of a call of a tool that has answered.
func Answered(do *workflow.Call, text string) Outcome {
	return completed(map[string]any{"text": text}, do.Result, text, "the answer")
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
