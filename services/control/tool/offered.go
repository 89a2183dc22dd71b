package tool

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/picture"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

// Offered is a tool that an executor has, as it says itself. Its JSON is what a store keeps.
type Offered struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Schema      json.RawMessage `json:"schema"`
	Safety      Safety          `json:"safety"`
	Timeout     time.Duration   `json:"timeout,omitempty"` // of a call; 0 is none
}

// Bounds of what an executor offers.
const (
	MaxOffered     = 128
	MaxOfferedSize = 256 * 1024 // bytes of all descriptions and schemas
	maxDescription = 8 * 1024
	maxSchema      = 64 * 1024
	maxCallTime    = 24 * time.Hour
)

// Check says what is wrong with an offer.
func (o Offered) Check() error {
	switch {
	case !ValidName(o.Name):
		return fmt.Errorf("%.100q cannot be a tool's name: it must have 1 to 64 letters, digits, _ and -", o.Name)
	case strings.TrimSpace(o.Description) == "":
		return fmt.Errorf("tool %s has no description", o.Name)
	case len(o.Description) > maxDescription:
		return fmt.Errorf("tool %s: its description has %d bytes, at most %d are possible", o.Name, len(o.Description),
			maxDescription)
	case len(o.Schema) > maxSchema:
		return fmt.Errorf("tool %s: its JSON Schema has %d bytes, at most %d are possible", o.Name, len(o.Schema),
			maxSchema)
	case o.Safety < AtMostOnce || o.Safety > Pure:
		return fmt.Errorf("tool %s: its safety is not known", o.Name)
	case o.Timeout < 0 || o.Timeout > maxCallTime:
		return fmt.Errorf("tool %s: its timeout is %v, at most %v is possible", o.Name, o.Timeout, maxCallTime)
	}
	if err := CheckSchema(o.Schema); err != nil {
		return fmt.Errorf("tool %s: its JSON Schema: %w", o.Name, err)
	}
	return nil
}

// Tool is the tool that models are offered. source says which executor has it.
func (o Offered) Tool(source string) (*Tool, error) {
	how := typed(KindExecutor, renderSaid)
	how.parse, how.makes = func(args []byte) (Request, error) {
		return CallTool{Tool: o.Name, Args: args, Timeout: o.Timeout}, nil
	}, true
	return Define(Spec{
		Name: o.Name, Description: o.Description, Schema: o.Schema, Safety: o.Safety, Source: source, How: how,
	})
}

// CallTool asks an executor for a call of a tool that it offers.
type CallTool struct {
	Tool    string          `json:"tool"`
	Args    json.RawMessage `json:"args"`
	Timeout time.Duration   `json:"timeout,omitempty"` // 0 is none
}

// Said answers CallTool: what a tool that is not Pawl's has to say.
type Said struct {
	Text       string
	Structured json.RawMessage `json:",omitempty"`
	Images     [][]byte        `json:",omitempty"`
	IsError    bool            `json:",omitempty"`
}

// Bounds of a Said.
const (
	MaxSaid       = 8 << 20 // bytes in all
	MaxSaidImages = 10
)

// Problem says what is wrong with an answer of an executor's tool, "" for nothing.
func (s Said) Problem() string {
	size := len(s.Text) + len(s.Structured)
	for _, image := range s.Images {
		size += len(image)
	}
	switch {
	case size > MaxSaid:
		return fmt.Sprintf("the tool's result has %d bytes, at most %d are possible", size, MaxSaid)
	case len(s.Images) > MaxSaidImages:
		return fmt.Sprintf("the tool's result has %d images, at most %d are possible", len(s.Images), MaxSaidImages)
	case len(s.Structured) > 0 && !json.Valid(s.Structured):
		return "the tool's structured result is not valid JSON"
	}
	return ""
}

// Clean implements Reply.
func (s Said) Clean(c Cleaner) Reply {
	s.Text = c.Text(plain(c.Text(s.Text)))
	s.Structured = c.JSON(s.Structured)
	return s
}

// Show implements Shown.
func (s Said) Show() Result {
	res := RenderAnswer(Answer{Text: s.Text}, nil)
	if strings.TrimSpace(s.Text) == "" {
		res = RenderAnswer(Answer{Text: string(s.Structured)}, nil)
		if len(s.Structured) == 0 && len(s.Images) > 0 {
			res.Text = fmt.Sprintf("%d images:", len(s.Images))
		}
	}
	res.IsError = s.IsError
	if len(s.Structured) > 0 && len(s.Structured) <= MaxText {
		res.Details = Fields{"structured": s.Structured}.Encode()
	}
	for _, image := range s.Images {
		res.Images = append(res.Images, model.Image{MediaType: picture.Type(image), Data: image})
	}
	return res
}

// Words implements Worded.
func (s Said) Words() (text, data string) {
	return cmp.Or(s.Text, string(s.Structured)), string(s.Structured)
}

func renderSaid(_ CallTool, s Said) Result { return s.Show() }

// Absent is a tool that an agent names and no executor offers to it. Models are told so, and calls of it fail.
func Absent(name, why string) (*Tool, error) {
	how := typed[CallTool, Said](KindControl, renderSaid)
	how.parse, how.makes = func(args []byte) (Request, error) { return CallTool{Tool: name, Args: args}, nil }, true
	how.run = func(context.Context, Call) (Reply, error) {
		return Said{Text: "The call was not made: " + why, IsError: true}, nil
	}
	return Define(Spec{
		Name: name, Missing: true, Safety: Pure, Source: "an executor, which is not there", How: how,
		Description: "Not available now: " + clip.Shorten(why, maxDescription),
		Schema:      json.RawMessage(`{"type":"object"}`),
	})
}
