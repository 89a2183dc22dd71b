package tool

import (
	"fmt"
	"strings"

	"github.com/pawl-dev/pawl/services/control/picture"
)

func renderText(req ReadText, r TextReply) Result {
	path := display(req.Path)
	switch {
	case r.IsDir:
		return renderDir(path, r.Entries)
	case picture.Type(r.Image) != "":
		return renderImage(path, r.Image)
	case r.Binary && strings.HasPrefix(r.MediaType, "image/") && r.Size > 0:
		return Result{
			Text: fmt.Sprintf("%s is an image of %d bytes, which is too large to be shown. "+
				"Use bash to make a smaller copy.", path, r.Size),
			IsError: true,
			Details: fields{"path": path, "mediaType": r.MediaType, "bytes": r.Size}.encode(),
		}
	case r.Binary || len(r.Image) > 0:
		size := max(r.Size, int64(len(r.Image)))
		return Result{
			Text: fmt.Sprintf("%s is a binary file of %d bytes and is not shown as text. Use bash to inspect it.",
				path, size),
			Details: fields{"path": path, "binary": true, "bytes": size}.encode(),
		}
	}
	return renderLines(path, req, r)
}

func renderDir(path string, entries []string) Result {
	lines := make([]string, min(len(entries), MaxLines+1))
	for i := range lines {
		lines[i] = display(entries[i])
	}
	text, shown := fit(lines)
	switch {
	case len(entries) == 0:
		text = "(empty directory)"
	case shown < len(entries):
		text += fmt.Sprintf("\n\n[Showing %d of %d entries. Use glob or bash to see the others.]", shown, len(entries))
	}
	return Result{Text: text, Details: fields{"path": path, "isDirectory": true, "entries": len(entries)}.encode()}
}

// renderLines shows a window of whole lines. What is shown is counted here and not believed, so that the footer is true
// whatever an executor sent.
func renderLines(path string, req ReadText, r TextReply) Result {
	content := sanitize(string(r.Content))
	first := max(r.FirstLine, 1)
	if content == "" {
		if req.Offset > max(r.TotalLines, 1) {
			return Result{
				Text:    fmt.Sprintf("Offset %d is beyond end of file (%d lines total)", req.Offset, r.TotalLines),
				IsError: true,
				Details: fields{"path": path, "lines": r.TotalLines}.encode(),
			}
		}
		return Result{Text: "(empty file)", Details: fields{"path": path, "lines": r.TotalLines}.encode()}
	}
	most := MaxLines
	if req.Limit > 0 && req.Limit < MaxLines {
		most = int(req.Limit)
	}
	end, lines := headLines(content, most, MaxText)
	if lines == 0 || r.LineCut {
		return renderLongLine(path, content, first, r.TotalLines)
	}
	last := first + int64(lines) - 1
	total := max(r.TotalLines, first+int64(countLines(content))-1)
	text := content[:end]
	if last < total {
		text = strings.TrimSuffix(text, "\n") +
			fmt.Sprintf("\n\n[Showing lines %d-%d of %d. Use offset=%d to continue.]", first, last, total, last+1)
	}
	return Result{Text: text, Details: fields{"path": path, "lines": total}.encode()}
}

// renderLongLine shows the beginning of a line that alone is over the limit.
func renderLongLine(path, content string, line, total int64) Result {
	text, _, _ := strings.Cut(content, "\n")
	text = text[:floor(text, MaxText)]
	total = max(total, line)
	notice := fmt.Sprintf("\n\n[Line %d of %d is longer than 50 KB; only its beginning is shown. Use bash to see "+
		"more of it", line, total)
	if line < total {
		notice += fmt.Sprintf(", or offset=%d to continue after it", line+1)
	}
	return Result{Text: text + notice + ".]", Details: fields{"path": path, "lines": total, "lineCut": true}.encode()}
}
