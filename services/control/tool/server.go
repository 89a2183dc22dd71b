package tool

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/picture"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

// ServerCall is a request to a server of tools that runs beside the workspace, on the session's executor.
type ServerCall struct {
	ID      string          `json:"id"`   // of the server's definition
	Name    string          `json:"name"` // of the server, for people
	Program string          `json:"program"`
	Args    []string        `json:"args,omitempty"`
	Cwd     string          `json:"cwd,omitempty"` // where it runs; "" is the root of the executor
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params,omitempty"`
	Timeout time.Duration   `json:"timeout"`
	Plugin  *PluginPlace    `json:"plugin,omitempty"` // of a server that is a plugin's
}

// PluginPlace is where a plugin is at an executor, which replaces ${PLUGIN_ROOT} and ${PLUGIN_DATA} in what a server is
// started with.
type PluginPlace struct {
	Root string            `json:"root"` // its files
	Data string            `json:"data"` // what its servers keep; the executor makes it
	Env  map[string]string `json:"env,omitempty"`
}

// ServerReply is what a server of tools has answered.
type ServerReply struct {
	Parts      []ServerPart
	Structured string // JSON beside the parts; "" is none
	IsError    bool
	Left       int      `json:",omitempty"` // bytes of the answer that are left out
	Notes      []string // for the model, of what control has to say of the answer
}

// ServerPart is a text, or an image of any of the types that models see.
type ServerPart struct {
	Text  string `json:",omitempty"`
	Image []byte `json:",omitempty"`
}

// Clean implements Reply.
func (r ServerReply) Clean(c Cleaner) Reply {
	parts := make([]ServerPart, len(r.Parts))
	for i, p := range r.Parts {
		p.Text = c.Text(p.Text)
		parts[i] = p
	}
	r.Parts, r.Structured, r.Notes = parts, string(c.JSON(json.RawMessage(r.Structured))), mapped(r.Notes, c.Text)
	return r
}

// Show implements Shown.
func (r ServerReply) Show() Result {
	var texts []string
	res := Result{IsError: r.IsError}
	for _, p := range r.Parts {
		if len(p.Image) > 0 {
			if kind := picture.Type(p.Image); kind != "" {
				res.Images = append(res.Images, model.Image{MediaType: kind, Data: p.Image})
			}
			continue
		}
		if text := strings.TrimRight(clip.Sanitize(p.Text), "\n"); text != "" {
			texts = append(texts, text)
		}
	}
	if r.Structured != "" && !holds(texts, r.Structured) {
		texts = append(texts, clip.Sanitize(r.Structured))
	}
	said, cut := clip.Head(strings.Join(texts, "\n"), MaxLines, MaxText)
	switch {
	case cut > 0:
		said = strings.TrimSuffix(said, "\n") + fmt.Sprintf("\n[... %d more bytes cut ...]", cut)
	case said == "" && len(res.Images) > 0:
		said = fmt.Sprintf("(%d images)", len(res.Images))
	case said == "":
		said = "(no content)"
	}
	for _, note := range r.Notes {
		said += "\n\n[" + clip.Shorten(clip.Sanitize(note), maxMessage) + "]"
	}
	res.Text = said
	return res
}

// Words implements Worded.
func (r ServerReply) Words() (text, data string) {
	var texts []string
	for _, p := range r.Parts {
		if p.Text != "" {
			texts = append(texts, p.Text)
		}
	}
	return cmp.Or(strings.Join(texts, "\n"), r.Structured), r.Structured
}

// holds reports whether one of the texts is the same JSON as a value: servers repeat it for clients that know text
// only.
func holds(texts []string, value string) bool {
	want, err := compact(value)
	if err != nil {
		return false
	}
	for _, text := range texts {
		if got, err := compact(text); err == nil && got == want {
			return true
		}
	}
	return false
}

// compact is JSON without white space and with sorted keys.
func compact(text string) (string, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil || d.More() {
		return "", errors.Join(err, errors.New("no single value"))
	}
	body, err := json.Marshal(v)
	return string(body), err
}

// DecodeImage is an image that a server has sent, if models can see it.
func DecodeImage(text string) ([]byte, bool) {
	data, err := base64.StdEncoding.DecodeString(text)
	return data, err == nil && picture.Type(data) != ""
}

// ByServer has calls carried out by a server of tools on the session's executor. ask makes the request of the
// arguments, which are JSON; its error is told to the model.
func ByServer(ask func(args []byte) (ServerCall, error), render func(ServerReply) Result) How {
	h := typed(KindExecutor, func(_ ServerCall, r ServerReply) Result { return render(r) })
	h.parse, h.makes = func(args []byte) (Request, error) { return ask(args) }, true
	return h
}

// Schema is a JSON Schema of what a tool answers.
type Schema struct{ contract }

// NewSchema reads a schema. One that refers to files or to the network is refused.
func NewSchema(schema json.RawMessage) (Schema, error) {
	c, err := compile(schema)
	return Schema{c}, err
}

// Problems are what is wrong with a value, one line each.
func (s Schema) Problems(value json.RawMessage) []string {
	var v any
	if err := json.Unmarshal(value, &v); err != nil {
		return []string{err.Error()}
	}
	if err := s.validate(v); err != nil {
		return s.explain(err)
	}
	return nil
}

// Progress is how far a call is, as whoever carries it out says.
type Progress struct {
	Progress, Total float64 // Total 0 is unknown
	Message         string
}

type progressKey struct{}

// WithProgress is a context for Run in which calls can say how far they are. report may be called concurrently.
func WithProgress(ctx context.Context, report func(Progress)) context.Context {
	return context.WithValue(ctx, progressKey{}, report)
}

// Report says how far a call of KindControl is, to whoever watches.
func Report(ctx context.Context, p Progress) {
	if report, ok := ctx.Value(progressKey{}).(func(Progress)); ok {
		report(p)
	}
}
