package client

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/structpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
)

// start is the skill that a prompt starts with.
type start struct {
	skill string
	args  []string
}

func (s *start) flags(f *pflag.FlagSet) {
	f.StringVar(&s.skill, "skill", "", "`NAME`: skill that the agent begins with")
	f.StringArrayVar(&s.args, "arg", nil, "`KEY=VALUE`: what the skill is given; may be repeated")
}

// arguments are those of prompt: with a skill the message may be left out.
func (s *start) arguments(c *cobra.Command, args []string) error {
	if s.skill != "" && len(args) == 1 {
		return nil
	}
	return cli.Args(2)(c, args)
}

// call is the skill to begin with, nil for none.
func (s *start) call(c *cobra.Command) (*pawlv1.SkillCall, error) {
	if s.skill == "" {
		if len(s.args) > 0 {
			return nil, cli.Misused(c, errors.New("--arg is for a skill: name it with --skill"))
		}
		return nil, nil
	}
	call := &pawlv1.SkillCall{Name: s.skill}
	for _, arg := range s.args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok || key == "" {
			return nil, cli.Misused(c, fmt.Errorf("--arg %s: write KEY=VALUE", arg))
		}
		if call.Args == nil {
			call.Args = &structpb.Struct{Fields: map[string]*structpb.Value{}}
		}
		call.Args.Fields[key] = structpb.NewStringValue(value)
	}
	return call, nil
}
