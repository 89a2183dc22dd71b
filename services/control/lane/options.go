package lane

import (
	"encoding/json"
	"fmt"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/skill"
)

// Options is what the caller of a loop asks for beside its input: of a root, with the submission; of a sub-agent, its
// parent. They never change. The zero value asks for nothing.
type Options struct {
	// ResultSchema is the JSON Schema of the result that the loop has to end with; nil wants a text.
	ResultSchema json.RawMessage `json:"result_schema,omitempty"`
	// Compact asks for a summary of the conversation instead of an answer. The input is never told to a model.
	Compact bool `json:"compact,omitempty"`
	// Skill is one that the loop begins with; nil is none.
	Skill *SkillCall `json:"skill,omitempty"`
	// Shell is a command to run instead of asking a model: the loop ends with what it comes to.
	Shell *Shell `json:"shell,omitempty"`
}

// Shell is a command that its caller makes a part of a conversation.
type Shell struct {
	Command string  `json:"command"`
	Cwd     string  `json:"cwd,omitempty"`
	Timeout float64 `json:"timeout,omitempty"` // in seconds; 0 is no limit of its own
}

// SkillCall is a skill and what it is given.
type SkillCall struct {
	Name string          `json:"name"`
	Args json.RawMessage `json:"args,omitempty"` // an object
}

// Check says what is wrong with a skill that is asked for: ErrSkill.
func (c *SkillCall) Check() error {
	switch {
	case !skill.ValidName(c.Name):
		return ErrSkill.WithFacts(map[string]string{"field": "skill.name"}, "skill.name must be the name of a skill: "+
			"1 to %d of a-z, 0-9 and single hyphens between them, behind PLUGIN: if it is a plugin's", skill.MaxName)
	case len(c.Args) > skill.MaxArguments:
		return ErrSkill.WithFacts(map[string]string{"field": "skill.args"}, "skill.args has %d bytes of JSON, at most "+
			"%d are possible; put long texts into the message", len(c.Args), skill.MaxArguments)
	}
	return nil
}

// ErrSkill refuses a skill that no agent can have.
var ErrSkill = errs.New(errs.InvalidArgument, "SKILL_CALL_INVALID", "the skill cannot be one")

// Encode is the options as they are stored, "" when they ask for nothing. Equal options have equal texts.
func (o Options) Encode() (string, error) {
	b, err := json.Marshal(o)
	if err != nil {
		return "", fmt.Errorf("encoding the options of a loop: %w", err)
	}
	if string(b) == "{}" {
		return "", nil
	}
	return string(b), nil
}

// DecodeOptions reads what Encode has written.
func DecodeOptions(text string) (o Options, err error) {
	if text == "" {
		return o, nil
	}
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return Options{}, fmt.Errorf("decoding the options of a loop: %w", err)
	}
	return o, nil
}
