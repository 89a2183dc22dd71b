package wire

import (
	"regexp"
	"strings"
	"sync"

	"github.com/pawl-dev/pawl/services/control/model"
)

// Omission is what a conversation is sent without, because a server refused it. It is comparable.
type Omission struct {
	Images   bool
	Thinking bool
	Calls    bool   // calls and results are sent as texts
	Some     string // ids of calls that are sent as texts, each with a newline behind it
}

func (o Omission) holds(id string) bool {
	return o.Some != "" && strings.Contains("\n"+o.Some, "\n"+id+"\n")
}

// Names reports whether a text has the name as a word of its own.
func Names(text, name string) bool {
	for from := 0; name != ""; {
		i := strings.Index(text[from:], name)
		if i < 0 {
			return false
		}
		i += from
		end := i + len(name)
		if (i == 0 || !plainChar(text[i-1])) && (end == len(text) || !plainChar(text[end])) {
			return true
		}
		from = i + 1
	}
	return false
}

// Refused is what the conversation is sent without after a server has refused it in these words, in lower case, and
// what that is in words; "" when nothing of the conversation is to blame. tooLarge says that the request was too large.
//
// What is left out stays understandable: an image is a text that says so, a call and its result are texts.
func (e *Encoder) Refused(words string, messages []model.Message, tooLarge bool) (omit Omission, what string) {
	omit = e.omit
	images := e.has.images && !omit.Images
	// Anthropic refuses thoughts that it does not know, and turns without any of a model that is to think.
	anthropic := e.target.API == model.APIAnthropic || e.target.API == model.APIConverse && isClaude(e.target)
	thoughts := (e.has.thoughts || anthropic && e.has.calls) && !omit.Thinking
	calls := e.has.calls && !omit.Calls
	switch id := e.namedCall(words, messages); {
	case images && (tooLarge || containsAny(words, "image", "media_type", "base64")):
		omit.Images, what = true, "images"
	case tooLarge:
	case id != "" && omit.Some == "":
		omit.Some, what = id+"\n", "the call "+id
	case id != "": // whatever is wrong with its calls, it is not about one
		omit.Calls, what = true, "calls"
	case thoughts && containsAny(words, "thinking", "signature", "reasoning", "encrypted"):
		omit.Thinking, what = true, "the model's thoughts"
	case calls &&
		containsAny(words, "tool_use", "tool_result", "tool_call", "function_call", "function.arguments", "tool call",
			"function call", "call_id", "function response", "tooluse", "toolresult"):
		omit.Calls, what = true, "calls"
	case (images || thoughts || calls) && inConversation().MatchString(words):
		omit.Images, omit.Thinking, omit.Calls = true, true, true
		what = "images, thoughts and calls"
	}
	return omit, what
}

// inConversation are places in the conversation, as servers write them.
var inConversation = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\b(messages|input|contents)\b['"\]]*[.\[]+['"\[]*\d+|\bcontent block\b`)
})

func containsAny(text string, words ...string) bool {
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}

// namedCall is the journal's id of a call that the words name by the id with which it was sent.
func (e *Encoder) namedCall(words string, messages []model.Message) string {
	if !e.has.calls {
		return ""
	}
	found := ""
	look := NewEncoder(e.target, e.omit)
	look.sent = func(from, id string) {
		if found == "" && len(id) >= minNamed && Names(words, strings.ToLower(id)) {
			found = from
		}
	}
	look.Take(messages)
	return found
}

// minNamed is the length from which an id in an error is no word of its prose.
const minNamed = 4
