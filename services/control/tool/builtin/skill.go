package builtin

import (
	"encoding/json"
	"sync"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/skill"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// NameActivateSkill is the tool by which a model reads a skill.
const NameActivateSkill = "activate_skill"

// SkillRequest is what activate_skill asks for.
type SkillRequest struct {
	Name string          `json:"name"`
	Args json.RawMessage `json:"args,omitempty"` // an object, for the skill's instructions to use
}

// Problems are what is wrong with the request that a schema cannot say.
func (r SkillRequest) Problems() []string {
	if !skill.ValidName(r.Name) {
		return []string{"name: must be the name of a skill, as it is listed"}
	}
	if len(r.Args) > skill.MaxArguments {
		return []string{"args: are too long; put long texts into files"}
	}
	return nil
}

var activateSkill = tool.Spec{
	Name:   NameActivateSkill,
	Source: source,
	Description: "Read the instructions of a skill that is listed among your skills or those of the workspace. Do so " +
		"before you begin with a task that the skill is about. Once is enough.",
	Safety:  tool.Idempotent,
	Own:     true,
	Subject: "name",
	Lines:   []string{"name"},
	Habits: tool.Habits{
		Names: map[string]string{
			"skill": "name", "skillname": "name", "command": "name", "arguments": "args", "input": "args",
			"parameters": "args", "params": "args",
		},
		After: omitEmpty,
	},
	Schema: json.RawMessage(`{
  "type": "object",
  "properties": {
    "name": {"type": "string", "minLength": 1, "description": "Name of the skill."},
    "args": {"type": "object", "description": "What the skill's instructions ask for, by name."}
  },
  "required": ["name"],
  "additionalProperties": false
}`),
}

// skillTool is checked once. How its calls are carried out is said for each loop.
var skillTool = sync.OnceValue(func() *tool.Tool {
	activateSkill.How = tool.ByControl(nil, renderSkill)
	return define(activateSkill)
})

// ActivateSkill is the tool whose calls run carries out, with a SkillRequest. It answers with what Activated makes.
func ActivateSkill(run tool.Run) *tool.Tool {
	return skillTool().With(tool.ByControl(run, renderSkill))
}

func renderSkill(_ SkillRequest, a tool.Answer) tool.Result { return tool.RenderAnswer(a, nil) }

// activated are the details of an activation.
type activated struct {
	Skill   string  `json:"skill"`
	Source  string  `json:"source"`
	Path    string  `json:"path"`
	Digest  string  `json:"digest"`
	Allowed *string `json:"allowed_tools"`
}

// Activated answers an activation: text is what the model is told.
func Activated(a skill.Activation, text string) tool.Answer {
	details := map[string]string{"skill": a.Name, "source": string(a.Source)}
	if a.Path != "" {
		details["path"] = a.Path
	}
	if a.Digest != "" {
		details["digest"] = a.Digest
	}
	if a.Allowed != nil {
		details["allowed_tools"] = skill.Told(a.Allowed)
	}
	return tool.Answer{Text: text, Details: details}
}

// SkillBlock is the block of an entry that tells a model of an activation as its caller's.
func SkillBlock(a skill.Activation, text string) model.Block {
	res := tool.RenderAnswer(Activated(a, text), nil)
	return model.Block{Type: model.TextBlock, Tool: NameActivateSkill, Text: res.Text, Details: res.Details}
}

// Activation is what a block of an entry says of a skill that it activates: the result of a call, or a SkillBlock.
func Activation(b model.Block) (a skill.Activation, ok bool) {
	if b.Tool != NameActivateSkill || b.IsError || b.Type == model.ToolCallBlock {
		return a, false
	}
	var d activated
	if json.Unmarshal(b.Details, &d) != nil || d.Skill == "" {
		return a, false
	}
	a = skill.Activation{Name: d.Skill, Source: skill.Source(d.Source), Path: d.Path, Digest: d.Digest}
	if d.Allowed != nil {
		a.Allowed = skill.Grants(*d.Allowed)
	}
	return a, true
}
