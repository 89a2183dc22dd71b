package tool

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

func renderGrep(r GrepReply) Result {
	total := max(r.Total, int64(len(r.Matches)))
	lines := make([]string, min(len(r.Matches), MaxMatches))
	for i := range lines {
		m := r.Matches[i]
		lines[i] = fmt.Sprintf("%s:%d: %s", display(m.Path), m.Line, matchText(m.Text))
	}
	text, shown := fit(lines)
	switch {
	case total == 0:
		text = "No matches found."
	case int64(shown) < total:
		text += fmt.Sprintf("\n\n[Showing %d of %d matches. Narrow your search.]", shown, total)
	}
	return Result{Text: text + note(r.Note), Details: fields{"matchCount": total}.encode()}
}

// matchText is a matching line, on one line and of MaxMatch characters at most.
func matchText(s string) string {
	s = strings.TrimRight(sanitize(s), "\r\n")
	s = strings.NewReplacer("\n", " ", "\r", " ").Replace(s)
	if utf8.RuneCountInString(s) <= MaxMatch {
		return s
	}
	n := 0
	for i := range s {
		if n == MaxMatch {
			return s[:i] + "..."
		}
		n++
	}
	return s
}

func renderGlob(r GlobReply) Result {
	total := len(r.Paths)
	lines := make([]string, min(total, MaxPaths))
	for i := range lines {
		lines[i] = display(r.Paths[i])
	}
	text, shown := fit(lines)
	cut := r.Truncated || shown < total
	switch {
	case total == 0:
		text = "No files found."
	case shown < total:
		text += fmt.Sprintf("\n\n[Showing %d of %d paths. Narrow the pattern.]", shown, total)
	case cut:
		text += fmt.Sprintf("\n\n[Showing the first %d paths; there are more. Narrow the pattern.]", shown)
	}
	return Result{Text: text, Details: fields{"pathCount": total, "truncated": cut}.encode()}
}
