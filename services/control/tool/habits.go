package tool

import (
	"slices"
	"strings"
)

// Habits are how models write the arguments of a tool out of habit with other tools. The zero value is none: then an
// argument's own name is found whatever its case and separators, and a value of another type is taken where its meaning
// is plain.
type Habits struct {
	// Names are other names of arguments: folded name (see Fold) → argument.
	Names map[string]string
	// Words are arguments, by folded name, that say in another way what one of the tool's arguments says. The function
	// puts it into the tool's words; false leaves it out.
	Words map[string]func(a *Arguments, value any) bool
	// Hints are what to tell, by folded name, of an argument that the tool does not have when the call is refused.
	Hints map[string]string
	// Before changes the arguments as they were written.
	Before func(a *Arguments)
	// Text is what an object or a list means for an argument that must be text; ok is false when it has no meaning.
	Text func(a *Arguments, name string, value any) (text any, ok bool)
	// After changes arguments that have their names and types.
	After func(a *Arguments)
}

// asides are what models add to a call to tell about it. They change nothing, so the model is not told that they were
// left out.
var asides = []string{
	"description", "explanation", "reason", "reasoning", "thought", "thoughts", "purpose", "intent", "summary",
	"comment",
	"justification", "title", "label", "risk", "risklevel", "securityrisk", "issafe", "requiresapproval", "placeholder",
}

// Fold is a name as it is compared: without case and separators.
func Fold(name string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "", ".", "").Replace(name))
}

func aside(name string) bool { return slices.Contains(asides, Fold(name)) }

// meaning finds the argument that a name stands for; "" when there is none.
func (t *Tool) meaning(name string) string {
	if _, own := t.contract.types[name]; own {
		return name
	}
	folded := Fold(name)
	for own := range t.contract.types {
		if Fold(own) == folded {
			return own
		}
	}
	return t.Habits.Names[folded]
}
