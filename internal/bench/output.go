package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Marks in a Markdown file between which the result stands.
const (
	beginMark = "<!-- make bench: begin -->"
	endMark   = "<!-- make bench: end -->"
)

// writeFiles writes the rows to the files that were asked for.
func (o options) writeFiles(rows []Row) (err error) {
	if o.json != "" {
		err = writeJSON(o.json, rows)
	}
	if o.markdown != "" {
		err = errors.Join(err, putMarkdown(o.markdown, rows, o.before))
	}
	return err
}

func writeJSON(file string, rows []Row) error {
	body, err := json.MarshalIndent(result{thisRun(), rows}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(body, '\n'), 0o644) //nolint:gosec // figures are for everybody
}

// putMarkdown replaces what stands between the marks of a file.
func putMarkdown(file string, rows []Row, before *result) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString(thisRun().String() + "\n\n")
	if before != nil {
		b.WriteString(before.title() + "\n\n")
	}
	if err := writeMarkdown(&b, table(rows, before)); err != nil {
		return err
	}
	text, err := between(string(old), b.String())
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(text), 0o644) //nolint:gosec // figures are for everybody
}

// between puts text between the marks.
func between(old, text string) (string, error) {
	head, rest, ok := strings.Cut(old, beginMark)
	_, foot, ends := strings.Cut(rest, endMark)
	if !ok || !ends {
		return "", fmt.Errorf("the marks %s and %s are missing", beginMark, endMark)
	}
	return head + beginMark + "\n" + text + endMark + foot, nil
}
