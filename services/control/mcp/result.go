package mcp

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/mcpclient"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

// Bounds of what is kept of an answer.
const (
	maxTexts  = 256 << 10 // bytes of all texts; the model sees tool.MaxText of them
	maxImages = 8
	maxImage  = 5 << 20 // bytes
	maxParts  = 1000
	maxBlob   = 64 // characters of the name of a type
)

// ErrResult is an answer that is not what the protocol promises.
var ErrResult = errs.New(errs.FailedPrecondition, "MCP_RESULT", "the MCP server's answer cannot be read")

// block is content of any kind.
type block struct {
	Type     string    `json:"type"`
	Text     string    `json:"text"`
	Data     string    `json:"data"`
	MimeType string    `json:"mimeType"`
	Resource *resource `json:"resource"`

	URI         string `json:"uri"`
	Name        string `json:"name"`
	Description string `json:"description"`
}

// resource is a resource with its content.
type resource struct {
	URI      string  `json:"uri"`
	MimeType string  `json:"mimeType"`
	Text     *string `json:"text"`
	Blob     string  `json:"blob"`
}

// Read makes a reply of a server's answer to a method.
func Read(method string, r mcpclient.Result) (tool.ServerReply, error) {
	w := &reader{}
	var err error
	switch method {
	case mcpclient.CallTool:
		err = w.call(r.JSON)
	case mcpclient.ReadResource:
		err = w.contents(r.JSON)
	case mcpclient.GetPrompt:
		err = w.prompt(r.JSON)
	case mcpclient.ListResources, mcpclient.ListPrompts:
		err = w.list(r.JSON)
	default:
		err = fmt.Errorf("of %s", method)
	}
	if err != nil {
		return tool.ServerReply{}, ErrResult.With("the MCP server's answer cannot be read: %v", err)
	}
	for _, question := range r.Declined {
		w.Notes = append(w.Notes, fmt.Sprintf("While this call ran the server asked a question, which was declined, "+
			"because nobody is there to answer: %q", clip.Shorten(clip.Sanitize(question), 500)))
	}
	w.Left += w.left
	if w.left > 0 {
		w.Notes = append(w.Notes, fmt.Sprintf("%d bytes of text of the answer are left out.", w.left))
	}
	return w.ServerReply, nil
}

// Refused is a server's answer with an error of the protocol.
func Refused(method string, code int64, message string) tool.Failure {
	const methodNotFound = -32601
	hint := ""
	if code == methodNotFound && method == mcpclient.CallTool {
		hint = "; it may be a tool that needs tasks of the protocol, which are not supported"
	}
	return tool.Failure{Reason: "MCP_ERROR", Message: "the MCP server has refused it: " + message + hint}
}

// reader gathers the parts of an answer within bounds.
type reader struct {
	tool.ServerReply
	texts, images int
	left          int // bytes of texts that were left out
}

func (w *reader) text(s string) {
	if s == "" || len(w.Parts) == maxParts {
		w.left += len(s)
		return
	}
	if room := maxTexts - w.texts; len(s) > room {
		w.left += len(s) - clip.Floor(s, room)
		s = s[:clip.Floor(s, room)]
	}
	if s != "" {
		w.texts += len(s)
		w.Parts = append(w.Parts, tool.ServerPart{Text: s})
	}
}

// binary adds an image, or says what there is instead.
func (w *reader) binary(what, mediaType, data string) {
	image, ok := tool.DecodeImage(data)
	if !ok || w.images == maxImages || len(image) > maxImage {
		w.text(fmt.Sprintf("[%s of type %s with %d bytes, which is not shown]", what, short(mediaType), len(data)/4*3))
		return
	}
	w.images++
	w.Parts = append(w.Parts, tool.ServerPart{Image: image})
}

func short(mediaType string) string {
	if mediaType == "" {
		return "unknown"
	}
	return clip.Display(clip.Shorten(mediaType, maxBlob))
}

func (w *reader) block(b block) {
	switch b.Type {
	case "text":
		w.text(b.Text)
	case "image":
		w.binary("image", b.MimeType, b.Data)
	case "audio":
		w.text(fmt.Sprintf("[audio of type %s with %d bytes, which is not shown]", short(b.MimeType), len(b.Data)/4*3))
	case "resource":
		if b.Resource != nil {
			w.resource(*b.Resource)
		}
	case "resource_link":
		w.text("[resource " + clip.Display(b.URI) + ": " + strings.TrimSpace(b.Name+" "+b.Description) + "]")
	default:
		w.text(fmt.Sprintf("[content of the type %s, which is not known]", short(b.Type)))
	}
}

func (w *reader) resource(r resource) {
	w.text("[resource " + clip.Display(r.URI) + "]")
	if r.Text != nil {
		w.text(*r.Text)
		return
	}
	w.binary("resource", r.MimeType, r.Blob)
}

func (w *reader) call(body json.RawMessage) error {
	var r struct {
		Content    []block         `json:"content"`
		Structured json.RawMessage `json:"structuredContent"`
		IsError    bool            `json:"isError"`
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return err
	}
	w.IsError = r.IsError
	for _, b := range r.Content {
		w.block(b)
	}
	switch n := len(r.Structured); {
	case n == 0 || string(r.Structured) == "null":
	case n > maxTexts:
		w.Left += n
		w.Notes = append(w.Notes, fmt.Sprintf("The structured content has %d bytes and is left out.", n))
	default:
		w.Structured = string(r.Structured)
	}
	return nil
}

func (w *reader) contents(body json.RawMessage) error {
	var r struct {
		Contents []resource `json:"contents"`
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return err
	}
	for _, c := range r.Contents {
		w.resource(c)
	}
	return nil
}

func (w *reader) prompt(body json.RawMessage) error {
	var r struct {
		Description string `json:"description"`
		Messages    []struct {
			Role    string `json:"role"`
			Content block  `json:"content"`
		} `json:"messages"`
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return err
	}
	w.text(r.Description)
	for _, m := range r.Messages {
		w.text(clip.Shorten(m.Role, maxBlob) + ":")
		w.block(m.Content)
	}
	return nil
}

// list shows what resources or prompts there are, a line each.
func (w *reader) list(body json.RawMessage) error {
	var r struct {
		Resources []block `json:"resources"`
		Prompts   []struct {
			Name        string `json:"name"`
			Description string `json:"description"`
			Arguments   []struct {
				Name        string `json:"name"`
				Description string `json:"description"`
				Required    bool   `json:"required"`
			} `json:"arguments"`
		} `json:"prompts"`
		Cut string `json:"cut"`
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return err
	}
	line := func(parts ...string) {
		parts = slices.DeleteFunc(parts, func(p string) bool { return strings.TrimSpace(p) == "" })
		w.text(clip.Shorten(strings.Join(strings.Fields(strings.Join(parts, " - ")), " "), 500))
	}
	for _, one := range r.Resources {
		line(one.URI, one.Name, one.MimeType, one.Description)
	}
	for _, one := range r.Prompts {
		var args []string
		for _, a := range one.Arguments {
			text := a.Name
			if !a.Required {
				text += "?"
			}
			args = append(args, text)
		}
		line(one.Name+"("+strings.Join(args, ", ")+")", one.Description)
	}
	if r.Cut != "" {
		w.Notes = append(w.Notes, r.Cut)
	}
	return nil
}
