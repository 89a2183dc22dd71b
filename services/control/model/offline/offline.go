// Package offline is a model without a network: what a prompt says is what it does.
//
// The model offline/shell takes the last user message as a program, one step a line, blank lines skipped:
//
//	ls -l                        asks for a call of the tool bash with {"command": "ls -l"}
//	tool NAME: {"a": 1}          asks for a call of any tool
//	task: TEXT                   asks a sub-agent to do TEXT, a copy of the agent
//	task AGENT: TEXT             asks this sub-agent
//	& ls                         asks for this call together with those of the line before
//	say: TEXT                    streams TEXT back, word by word
//	think: TEXT                  thinks TEXT
//	fail: TEXT                   fails the call, for good, with the error TEXT
//	finish: JSON                 ends with a structured result; one that is no object becomes {"result": JSON}
//	give up: TEXT                says that there cannot be a structured result, because of TEXT
//	again:                       ends the answer here; what follows is for when control asks again
//
// An agent whose messages are for other models, too, has its program in its instructions, between a line ```offline and
// a line ```. It is carried out instead of the message. Commands find the message in the variable MESSAGE:
//
//	case "$MESSAGE" in *urgent*) echo '{"rank": 1}' ;; *) echo '{"rank": 2}' ;; esac
//
// A program that ends without finish, where a structured result is asked for, ends with the last result of its calls
// that is JSON. Asked for a summary, it says how much there was to read.
//
// One model call runs the steps up to and including the next that asks for tools; the call that gets the results goes
// on from there. After the last step the answer is what the say lines after the last tool call said or, if there are
// none, the results of all tool calls, joined by newlines.
//
// Invariants: the same request gives the same stream; how far the program has come is read from the messages after the
// prompt and from nothing else; the work is in proportion to the prompt and its results, not to the conversation.
package offline

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool/result"
)

// Shell is the name of the model.
var Shell = model.Ref{Provider: "offline", ID: "shell"}

const window = 200_000

// hint is the answer to a prompt without steps.
const hint = "Each line of a message is run as a shell command; `say: TEXT` answers with TEXT."

// Open is a model.Open for model.APIOffline.
func Open(_ model.Endpoint, id string) (model.Model, error) {
	if id != Shell.ID {
		return nil, model.ErrNotFound.With("there is no model offline/%s; use %s", id, Shell)
	}
	return New(), nil
}

// New is offline/shell.
func New() model.Model { return shell{} }

type shell struct{}

// Ref implements model.Model.
func (shell) Ref() model.Ref { return Shell }

// API implements model.Model.
func (shell) API() model.API { return model.APIOffline }

// Window implements model.Model.
func (shell) Window() int64 { return window }

// MaxOutput implements model.Model.
func (shell) MaxOutput() int64 { return 0 }

// Stream implements model.Model.
func (shell) Stream(ctx context.Context, req model.Request) iter.Seq2[model.Part, error] {
	return func(yield func(model.Part, error) bool) {
		if req.Sums {
			sum(ctx, req, yield)
			return
		}
		s := scan(req.Messages)
		if program, ok := instructed(req.System); ok {
			s.message, s.prompt = s.prompt, program
		}
		s.structured = slices.ContainsFunc(req.Tools, func(t model.Tool) bool { return t.Name == result.NameFinish })
		e := &emitter{ctx: ctx, yield: yield, usage: model.Usage{Input: tokens(s.size + len(req.System))}}
		e.run(s, func(n int) string { return callID(req, s, n) })
	}
}

// sum answers with a summary that says how much there was to read.
func sum(ctx context.Context, req model.Request, yield func(model.Part, error) bool) {
	size := len(req.System)
	for _, m := range req.Messages {
		size += len(m.Text())
	}
	e := &emitter{ctx: ctx, yield: yield, usage: model.Usage{Input: tokens(size)}}
	program := fmt.Sprintf("say: ## State\nsay: %d bytes of the conversation are left out.", size)
	e.run(state{prompt: program}, func(int) string { return "" })
}

// state is how far the program of the last user message has come.
type state struct {
	prompt     string   // the program
	message    string   // what a program of the instructions is about
	structured bool     // a structured result is asked for
	turns      int      // assistant messages that asked for tools, and notes of control after others
	results    []string // of all tool calls, in the order in which they were asked for
	size       int      // bytes of the prompt and what came after it
}

// instructed is the program that the instructions of an agent have.
func instructed(system string) (program string, ok bool) {
	_, rest, _ := strings.Cut("\n"+system, "\n```offline\n")
	program, _, ok = strings.Cut(rest, "\n```")
	return program, ok
}

// scan reads the messages from the last user message on.
func scan(messages []model.Message) state {
	first := len(messages)
	for first > 0 && (first == len(messages) || messages[first].Role != model.User || messages[first].IsNote()) {
		first--
	}
	var s state
	if first < len(messages) && messages[first].Summary != nil {
		s.turns = messages[first].Summary.Turns
	}
	texts := map[string]string{} // of results, by call
	var order []string
	for i, m := range messages[first:] {
		asked := false
		for _, b := range m.Content {
			s.size += len(b.Text) + len(b.Args)
			switch {
			case len(b.Details) > 0 && m.Role == model.User: // what is told beside the prompt
			case i == 0 && m.Role == model.User && b.Type == model.TextBlock:
				s.prompt += b.Text + "\n"
			case b.Type == model.ToolCallBlock:
				asked = true
				order = append(order, b.CallID)
			case b.Type == model.ToolResultBlock:
				texts[b.CallID] = b.Text
			}
		}
		if asked || m.IsNote() {
			s.turns++
		}
	}
	for _, id := range order {
		s.results = append(s.results, texts[id])
	}
	return s
}

// answer is the results as one text: exactly one newline stands between two.
func (s state) answer() string {
	results := make([]string, len(s.results))
	for i, r := range s.results {
		if i < len(s.results)-1 {
			r = strings.TrimSuffix(r, "\n")
		}
		results[i] = r
	}
	return strings.Join(results, "\n")
}

// data is the last result that is JSON.
func (s state) data() (text string, ok bool) {
	for _, r := range slices.Backward(s.results) {
		if json.Valid([]byte(r)) {
			return r, true
		}
	}
	return "", false
}

// callID names the nth tool call of this model call. It depends on the request alone; the session's key keeps sessions
// apart.
func callID(req model.Request, s state, n int) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%d\x00%d\x00%s", req.CacheKey, len(req.Messages), n, s.prompt)
	return "call_" + strconv.FormatUint(h.Sum64(), 36)
}

// tokens is the usual estimate: four bytes each.
func tokens(bytes int) int64 { return int64(bytes+3) / 4 }
