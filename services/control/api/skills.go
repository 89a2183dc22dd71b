package api

import (
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/types/known/structpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/skill"
)

// decodeSkill is the skill that a caller starts with, nil for none.
func decodeSkill(s *pawlv1.SkillCall) (*lane.SkillCall, error) {
	if s == nil {
		return nil, nil
	}
	call := &lane.SkillCall{Name: s.GetName()}
	if args := s.GetArgs().AsMap(); len(args) > 0 {
		var err error
		// Its keys are sorted, so that equal arguments have equal bytes.
		if call.Args, err = json.Marshal(args); err != nil {
			return nil, fmt.Errorf("encoding the arguments of a skill: %w", err)
		}
	}
	return call, nil
}

func encodeSkill(s *lane.SkillCall) *pawlv1.SkillCall {
	if s == nil {
		return nil
	}
	out := &pawlv1.SkillCall{Name: s.Name}
	var args map[string]any
	if json.Unmarshal(s.Args, &args) == nil && len(args) > 0 {
		out.Args, _ = structpb.NewStruct(args) // what JSON has, a Struct has
	}
	return out
}

// skillSources are where skills come from.
var skillSources = map[string]pawlv1.SkillActivated_Source{
	string(skill.OfProject):   pawlv1.SkillActivated_SOURCE_PROJECT,
	string(skill.OfWorkspace): pawlv1.SkillActivated_SOURCE_WORKSPACE,
}

func encodeSkillActivated(s *event.Skill) *pawlv1.Event_SkillActivated {
	return &pawlv1.Event_SkillActivated{SkillActivated: &pawlv1.SkillActivated{
		Name: clean(s.Name), Source: skillSources[s.Source], Path: clean(s.Path), Digest: s.Digest,
		ByCaller: s.ByCaller,
	}}
}
