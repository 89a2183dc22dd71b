package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/picture"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
)

// maxImage is how many bytes an image may have, as executors know it.
const maxImage = 5 << 20

// render shows what a command came to, by what its output is. A command that fails is an error, with all that it wrote.
func (d Definition) render(q tool.Exec, r tool.ExecReply) tool.Result {
	res := builtin.RenderExec(q, r)
	failed := r.ExitCode != 0 || r.TimedOut || res.IsError
	switch {
	case failed:
		res.IsError = true
	case d.Output == JSON:
		res = asJSON(res, r.Stdout)
	case d.Output == Image:
		res = asImage(res, r)
	}
	if _, large, err := d.variables(argumentsOf(q)); err == nil && len(large) > 0 {
		res.Text += fmt.Sprintf("\n\n[The command has these arguments on standard input only, because they are too "+
			"large for a variable: %s.]", strings.Join(large, ", "))
	}
	return res
}

func argumentsOf(q tool.Exec) (given map[string]json.RawMessage) {
	if json.Unmarshal(q.Input, &given) != nil {
		return nil // it was made of JSON
	}
	return given
}

// asJSON is the output of a command that has succeeded, in the fewest characters.
func asJSON(res tool.Result, out tool.Captured) tool.Result {
	var compact bytes.Buffer
	body := append(bytes.Clone(out.Head), out.Tail...)
	switch err := json.Compact(&compact, body); {
	case out.Cut > 0 || err == nil && compact.Len() > tool.MaxText:
		size := max(out.Size, int64(len(body))+out.Cut)
		res.Text = fmt.Sprintf("The command succeeded. Its output has %d bytes, and JSON of at most %d is shown. "+
			"Ask for less.", size, tool.MaxText)
		res.IsError = true
	case err != nil:
		res.Text = fmt.Sprintf("The command succeeded, and its output is not the JSON that it should be (%v):\n%s", err,
			res.Text)
		res.IsError = true
	default:
		res.Text = compact.String()
	}
	return res
}

// asImage is the image that a command has written. What is wrong with the image itself is found where it is made fit
// for models.
func asImage(res tool.Result, r tool.ExecReply) tool.Result {
	switch kind := picture.Type(r.Image); {
	case len(r.Image) == 0 && r.Stdout.Size > maxImage:
		res.Text = fmt.Sprintf("The command succeeded. Its output has %d bytes, and an image of at most %d is shown.",
			r.Stdout.Size, maxImage)
		res.IsError = true
	case len(r.Image) == 0:
		res.Text, res.IsError = "The command succeeded, and wrote no image.", true
	case kind == "":
		res.Text = fmt.Sprintf("The command succeeded, and its output of %d bytes is no image (PNG, JPEG, GIF, WebP).",
			len(r.Image))
		res.IsError = true
	default:
		res.Text = fmt.Sprintf("An image (%s, %d bytes).", kind, len(r.Image))
		res.Images = []model.Image{{MediaType: kind, Data: r.Image}}
	}
	return res
}
