package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// table is the texts of rows under their columns. With an earlier run it has two columns more.
func table(rows []Row, before *result) [][]string {
	lines := [][]string{slices.Clone(columns)}
	for _, r := range rows {
		lines = append(lines, r.cells())
	}
	if before == nil {
		return lines
	}
	pairs := append([][2]string{{"before", "now/before"}}, before.compare(rows)...)
	for i, pair := range pairs {
		lines[i] = append(lines[i], pair[:]...)
	}
	return lines
}

// writeTable writes lines in aligned columns.
func writeTable(w io.Writer, lines [][]string) error {
	widths := widthsOf(lines)
	for _, line := range lines {
		var b strings.Builder
		for i, cell := range line {
			if i > 0 {
				b.WriteString("  ")
			}
			b.WriteString(pad(i, cell, widths[i]))
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(b.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// writeMarkdown writes lines as a table of Markdown, aligned in its source too.
func writeMarkdown(w io.Writer, lines [][]string) error {
	for _, line := range lines {
		for i := range line {
			line[i] = strings.ReplaceAll(line[i], "|", `\|`)
		}
	}
	widths := widthsOf(lines)
	for n, line := range lines {
		var b strings.Builder
		for i, cell := range line {
			b.WriteString("| " + pad(i, cell, widths[i]) + " ")
		}
		b.WriteString("|\n")
		if n == 0 {
			for i, width := range widths {
				b.WriteString("|" + strings.Repeat("-", width+1))
				b.WriteString(map[bool]string{true: ":", false: "-"}[number(i)])
			}
			b.WriteString("|\n")
		}
		if _, err := io.WriteString(w, b.String()); err != nil {
			return err
		}
	}
	return nil
}

// number tells whether a column holds numbers, which stand at its right.
func number(column int) bool { return column >= 2 && column <= 6 || column >= len(columns) }

func pad(column int, cell string, width int) string {
	fill := strings.Repeat(" ", width-utf8.RuneCountInString(cell))
	if number(column) {
		return fill + cell
	}
	return cell + fill
}

func widthsOf(lines [][]string) []int {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}
