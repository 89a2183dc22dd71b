package builtin

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/picture"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

var read = tool.Spec{
	Name:    NameRead,
	Source:  source,
	Safety:  tool.Pure,
	How:     tool.ByExecutor(renderText),
	Subject: "path",
	Lines:   []string{"path"},
	Access:  tool.ReadsFiles | tool.ListsFiles,
	Description: "Read a file, or list a directory. Text comes as whole lines, at most 2,000 of them and 50 KB at a " +
		"time; when there is more, the last line says with which offset to continue. Images (PNG, JPEG, GIF, " +
		"WebP) are shown as images. For a directory the names in it are returned.",
	Habits: tool.Habits{
		Names: map[string]string{
			"file": "path", "filepath": "path", "filename": "path", "targetfile": "path", "absolutepath": "path",
			"relativepath": "path", "directory": "path", "dir": "path", "start": "offset", "startline": "offset",
			"linestart": "offset", "line": "offset", "fromline": "offset", "lines": "limit", "numlines": "limit",
			"maxlines": "limit", "linecount": "limit", "count": "limit",
		},
		Words: map[string]func(*tool.Arguments, any) bool{
			"endline": toLine, "lineend": toLine, "end": toLine, "toline": toLine,
			"viewrange": lineRange, "linerange": lineRange, "range": lineRange,
		},
		After: func(a *tool.Arguments) {
			omitEmpty(a)
			for _, name := range []string{"offset", "limit"} {
				if n, ok := a.Value(name).(float64); ok && (n == 0 || name == "limit" && n < 0) {
					a.Drop(name)
				}
			}
		},
	},
	Schema: json.RawMessage(`{
  "type": "object",
  "properties": {
    "path": {"type": "string", "minLength": 1,
      "description": "File or directory; relative paths start at the working directory."},
    "offset": {"type": "integer", "minimum": -9007199254740991, "maximum": 9007199254740991,
      "description": "Number of the first line to show, from 1; a negative one counts from the end."},
    "limit": {"type": "integer", "minimum": 1, "maximum": 9007199254740991,
      "description": "How many lines to show at most."}
  },
  "required": ["path"],
  "additionalProperties": false
}`),
}

// toLine takes the last line to show.
func toLine(a *tool.Arguments, v any) bool {
	last, ok := tool.Number(v)
	if !ok {
		return false
	}
	var first float64
	a.All(func(name string) {
		if a.Meaning(name) == "offset" {
			first, _ = tool.Number(a.Value(name))
		}
	})
	a.Fill("limit", last-max(first, 1)+1)
	return true
}

// lineRange takes [first, last]; a last of -1 is the end of the file.
func lineRange(a *tool.Arguments, v any) bool {
	pair, ok := v.([]any)
	if !ok || len(pair) != 2 {
		return false
	}
	first, ok1 := tool.Number(pair[0])
	last, ok2 := tool.Number(pair[1])
	if !ok1 || !ok2 {
		return false
	}
	a.Fill("offset", first)
	if last >= first {
		a.Fill("limit", last-max(first, 1)+1)
	}
	return true
}

func renderText(req tool.ReadText, r tool.TextReply) tool.Result {
	path := clip.Display(req.Path)
	switch {
	case r.IsDir:
		return renderDir(path, r.Entries)
	case picture.Type(r.Image) != "":
		return renderImage(path, r.Image)
	case r.Binary && strings.HasPrefix(r.MediaType, "image/") && r.Size > 0:
		return tool.Result{
			Text: fmt.Sprintf("%s is an image of %d bytes, which is too large to be shown. "+
				"Use bash to make a smaller copy.", path, r.Size),
			IsError: true,
			Details: tool.Fields{"path": path, "mediaType": r.MediaType, "bytes": r.Size}.Encode(),
		}
	case r.Binary || len(r.Image) > 0:
		size := max(r.Size, int64(len(r.Image)))
		return tool.Result{
			Text: fmt.Sprintf("%s is a binary file of %d bytes and is not shown as text. Use bash to inspect it.",
				path, size),
			Details: tool.Fields{"path": path, "binary": true, "bytes": size}.Encode(),
		}
	}
	return renderLines(path, req, r)
}

// renderImage shows an image as it came: see tool.Result.FitImages.
func renderImage(path string, data []byte) tool.Result {
	mediaType := picture.Type(data)
	return tool.Result{
		Text:    fmt.Sprintf("%s is an image (%s, %d bytes).", path, mediaType, len(data)),
		Images:  []model.Image{{MediaType: mediaType, Data: data}},
		Details: tool.Fields{"path": path, "mediaType": mediaType, "bytes": len(data)}.Encode(),
	}
}

func renderDir(path string, entries []string) tool.Result {
	text, shown := fit(entries, tool.MaxLines+1, clip.Display)
	switch {
	case len(entries) == 0:
		text = "(empty directory)"
	case shown < len(entries):
		text += fmt.Sprintf("\n\n[Showing %d of %d entries. Use glob or bash to see the others.]", shown, len(entries))
	}
	return tool.Result{
		Text:    text,
		Details: tool.Fields{"path": path, "isDirectory": true, "entries": len(entries)}.Encode(),
	}
}

// renderLines shows a window of whole lines. What is shown is counted here and not believed, so that the footer is true
// whatever an executor sent.
func renderLines(path string, req tool.ReadText, r tool.TextReply) tool.Result {
	content := clip.Sanitize(string(r.Content))
	first := max(r.FirstLine, 1)
	if content == "" {
		if req.Offset > max(r.TotalLines, 1) {
			return tool.Result{
				Text:    fmt.Sprintf("Offset %d is beyond end of file (%d lines total)", req.Offset, r.TotalLines),
				IsError: true,
				Details: tool.Fields{"path": path, "lines": r.TotalLines}.Encode(),
			}
		}
		return tool.Result{Text: "(empty file)", Details: tool.Fields{"path": path, "lines": r.TotalLines}.Encode()}
	}
	most := tool.MaxLines
	if req.Limit > 0 && req.Limit < tool.MaxLines {
		most = int(req.Limit)
	}
	end, lines := clip.HeadLines(content, most, tool.MaxText)
	if lines == 0 || r.LineCut {
		return renderLongLine(path, content, first, r.TotalLines)
	}
	last := first + int64(lines) - 1
	total := max(r.TotalLines, first+int64(clip.CountLines(content))-1)
	text := content[:end]
	if last < total {
		text = strings.TrimSuffix(text, "\n") +
			fmt.Sprintf("\n\n[Showing lines %d-%d of %d. Use offset=%d to continue.]", first, last, total, last+1)
	}
	return tool.Result{Text: text, Details: tool.Fields{"path": path, "lines": total}.Encode()}
}

// renderLongLine shows the beginning of a line that alone is over the limit.
func renderLongLine(path, content string, line, total int64) tool.Result {
	text, _, _ := strings.Cut(content, "\n")
	text = text[:clip.Floor(text, tool.MaxText)]
	total = max(total, line)
	notice := fmt.Sprintf("\n\n[Line %d of %d is longer than 50 KB; only its beginning is shown. Use bash to see "+
		"more of it", line, total)
	if line < total {
		notice += fmt.Sprintf(", or offset=%d to continue after it", line+1)
	}
	return tool.Result{
		Text:    text + notice + ".]",
		Details: tool.Fields{"path": path, "lines": total, "lineCut": true}.Encode(),
	}
}
