package tool

import (
	"fmt"
	"strings"
)

func renderWrite(req WriteFile) Result {
	path := display(req.Path)
	return Result{
		Text:    fmt.Sprintf("Successfully wrote %d bytes to %s", len(req.Content), path),
		Details: fields{"path": path, "bytes": len(req.Content)}.encode(),
	}
}

func renderEdit(req EditFile, r EditReply) Result {
	path := display(req.Path)
	text := "Successfully edited " + path
	if r.Replacements > 1 {
		text = fmt.Sprintf("Replaced %d occurrences in %s", r.Replacements, path)
	}
	diff := boundDiff(sanitize(r.Diff))
	if diff != "" {
		text += "\n\n" + diff
	}
	text += note(r.Note)
	return Result{Text: text, Details: fields{"path": path, "replacements": r.Replacements, "diff": diff}.encode()}
}

// note is what an executor adds for the model.
func note(text string) string {
	if text == "" {
		return ""
	}
	return "\n\n[" + shorten(sanitize(text), maxNote) + "]"
}

// maxNote bounds a note of an executor, in bytes.
const maxNote = 500

// boundDiff keeps the beginning of a diff that is over the limits.
func boundDiff(diff string) string {
	diff = strings.TrimRight(diff, "\n")
	if len(diff) <= MaxText && countLines(diff) <= MaxLines {
		return diff
	}
	end, lines := headLines(diff, MaxLines, MaxText)
	if lines == 0 {
		end = floor(diff, MaxText)
	}
	return strings.TrimSuffix(diff[:end], "\n") + fmt.Sprintf("\n[... %d more bytes of the diff cut ...]",
		len(diff)-end)
}
