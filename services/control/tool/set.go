package tool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

// Set is tools of different names in a fixed order. It never changes, so it may be used concurrently. The zero Set is
// empty.
type Set struct {
	tools []*Tool
	told  []model.Tool
	most  int
}

// NewSet makes a set. ErrInvalid names the sources of two tools that have one name.
func NewSet(tools ...*Tool) (Set, error) { return Set{}.With(tools...) }

// With is the set with more tools at its end. ErrInvalid names the sources of two tools that have one name.
func (s Set) With(tools ...*Tool) (Set, error) {
	all := slices.Clip(s.tools)
	for _, t := range tools {
		if i := slices.IndexFunc(all, func(o *Tool) bool { return o.Name == t.Name }); i >= 0 {
			return Set{}, ErrInvalid.With("two tools have the name %s: one of %s, one of %s", t.Name, all[i].Source,
				t.Source)
		}
		all = append(all, t)
	}
	return s.of(all), nil
}

// Has reports whether the set has a tool of a name.
func (s Set) Has(name string) bool {
	return slices.ContainsFunc(s.tools, func(t *Tool) bool { return t.Name == name })
}

// Tools are the tools, in order.
func (s Set) Tools() []*Tool { return slices.Clone(s.tools) }

// AtMost is the set of which at most so many calls are run of one answer; 0 is any number.
func (s Set) AtMost(calls int) Set {
	s.most = calls
	return s
}

// Offer is what a loop is offered: the named ones of the set's tools, and at most so many calls of them in one answer
// (0 is any number). Names that the set does not have are left out. The order is that of the set, whatever the order of
// the names, so that the prompt's prefix is stable.
func (s Set) Offer(names []string, calls int) Set {
	s.most = calls
	return s.of(slices.DeleteFunc(slices.Clone(s.tools), func(t *Tool) bool { return !slices.Contains(names, t.Name) }))
}

func (s Set) of(tools []*Tool) Set {
	out := Set{tools: tools, most: s.most}
	if len(tools) > 0 {
		out.told = make([]model.Tool, len(tools))
	}
	for i, t := range tools {
		out.told[i] = model.Tool{Name: t.Name, Description: t.Description, Schema: t.told, Strict: t.Strict}
	}
	return out
}

// Told is what a model is told of the tools; nil when there are none. It is shared and must not be changed.
func (s Set) Told() []model.Tool { return s.told }

// Names are the names of the tools, in order.
func (s Set) Names() []string {
	names := make([]string, len(s.tools))
	for i, t := range s.tools {
		names[i] = t.Name
	}
	return names
}

// Callable are the names of the tools of which calls can be made, in order: of all but those that are Missing.
func (s Set) Callable() (names []string) {
	for _, t := range s.tools {
		if !t.Missing {
			names = append(names, t.Name)
		}
	}
	return names
}

// Find finds a tool; ErrUnknown, written for the model, when there is none of that name.
func (s Set) Find(name string) (*Tool, error) {
	for _, t := range s.tools {
		if t.Name == name {
			return t, nil
		}
	}
	names := strings.Join(s.Names(), ", ")
	if names == "" {
		names = "none"
	}
	return nil, ErrUnknown.With("Tool %s not found. Available tools: %s.", clip.Shorten(clip.Sanitize(name), 100),
		names)
}

// Uses reports whether a tool of the set is carried out so.
func (s Set) Uses(k Kind) bool {
	return slices.ContainsFunc(s.tools, func(t *Tool) bool { return t.Kind() == k })
}

// Allows are the tools of the set that have an access.
func (s Set) Allows(a Access) Set {
	return s.of(slices.DeleteFunc(slices.Clone(s.tools), func(t *Tool) bool { return t.Access&a == 0 }))
}

// Asked is one call of an answer: as it was understood, or why it is refused.
type Asked struct {
	Block   model.Block
	Call    Call
	Refused error // written for the model
}

// Read reads the calls that an answer asks for, in order. It is done once for each answer: all that is to be known of
// a call is in its Asked.
func (s Set) Read(answer model.Message) []Asked {
	var all []Asked
	for _, b := range answer.Content {
		if b.Type == model.ToolCallBlock {
			c, err := s.Parse(len(all), b)
			all = append(all, Asked{b, c, err})
		}
	}
	return all
}

// Parse makes a request of the call at an index of an answer. It is liberal in what it takes, because a call that is
// refused costs a turn. An argument by another name or of another type is taken as what it means, where that is plain.
// Arguments that the tool does not have are left out, and the result says so. Parse returns ErrTooMany, ErrUnknown or
// ErrArguments; the text of the error is written for the model and may quote the arguments.
func (s Set) Parse(index int, b model.Block) (Call, error) {
	if s.most > 0 && index >= s.most {
		return Call{}, ErrTooMany.With(
			"Not run: at most %d calls of one answer are run. Make this call again if it is still needed.", s.most)
	}
	t, err := s.Find(b.Tool)
	if err != nil {
		return Call{}, err
	}
	if b.ArgsError != "" {
		return Call{}, ErrArguments.With("%s", b.ArgsError)
	}
	return t.parse(b.Args)
}

// Decode reads the stored form of a reply to a call of the named tool. One of this package's types is read without the
// tool, which may not be offered any more.
func (s Set) Decode(name string, body []byte) (Reply, error) {
	var e envelope
	err := json.Unmarshal(body, &e)
	switch {
	case err != nil:
	case e.Failure != nil:
		return *e.Failure, nil
	case len(e.Reply) == 0:
		err = fmt.Errorf("there is none in %.100q", body)
	case replyTypes[e.Type] != nil:
		var reply Reply
		if reply, err = replyTypes[e.Type](bytes.TrimSpace(e.Reply)); err == nil {
			return reply, nil
		}
	default:
		var t *Tool
		if t, err = s.Find(name); err == nil {
			var reply Reply
			if reply, err = t.How.decode(bytes.TrimSpace(e.Reply)); err == nil {
				return reply, nil
			}
		}
	}
	return nil, fmt.Errorf("decoding the reply to a call of %s: %w", name, err)
}
