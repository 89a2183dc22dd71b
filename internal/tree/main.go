// Command tree checks the files that Git tracks: no file is larger than 1 MiB, so that no built program is committed,
// and no line is wider than 120 columns.
//
// Lines that were wider when the rule came are counted in long.txt, a file each. A count may only fall; -write writes
// the present counts.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	maxFile  = 1 << 20
	maxWidth = 120
	tabWidth = 4
	// baseline is where long.txt is, from the root of the repository.
	baseline = "internal/tree/long.txt"
)

func main() {
	write := flag.Bool("write", false, "write the present counts of wide lines into "+baseline)
	flag.Parse()
	if err := run(*write); err != nil {
		fmt.Fprintln(os.Stderr, "tree:", err)
		os.Exit(1)
	}
}

func run(write bool) error {
	files, err := tracked()
	if err != nil {
		return err
	}
	wide, faults := map[string]int{}, []error(nil)
	for _, name := range files {
		content, err := os.ReadFile(name)
		switch {
		case errors.Is(err, os.ErrNotExist):
			continue // deleted, and not committed yet
		case err != nil:
			return err
		case len(content) > maxFile:
			faults = append(faults, fmt.Errorf("%s has %d bytes: nothing above %d is committed", name, len(content),
				maxFile))
		case prose(name):
			if n := len(wideLines(name, content)); n > 0 {
				wide[name] = n
			}
		}
	}
	if write {
		return errors.Join(append(faults, os.WriteFile(baseline, format(wide), 0o644))...) //nolint:gosec // part of the source
	}
	known, err := os.ReadFile(baseline)
	if err != nil {
		return err
	}
	before, err := parse(known)
	if err != nil {
		return err
	}
	return errors.Join(append(faults, compare(before, wide)...)...)
}

// tracked are the files of the repository, which is the working directory.
func tracked() ([]string, error) {
	cmd := exec.Command("git", "ls-files", "-z")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("listing the files that Git tracks: %w: %s", err, said.Bytes())
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == 0 }), nil
}

// prose tells whether a person writes and reads the file line by line.
func prose(name string) bool {
	for _, dir := range strings.Split(filepath.ToSlash(filepath.Dir(name)), "/") {
		if dir == "gen" || dir == "third_party" || dir == "testdata" {
			return false
		}
	}
	switch filepath.Ext(name) {
	case ".go", ".md", ".proto", ".sql", ".yaml", ".sh":
		return true
	}
	return filepath.Base(name) == "Makefile"
}

// wideLines are the numbers of the lines that are too wide. Rows of Markdown's tables cannot be broken and do not
// count.
func wideLines(name string, content []byte) []int {
	var numbers []int
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, maxFile+1)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		table := filepath.Ext(name) == ".md" && strings.HasPrefix(strings.TrimSpace(line), "|")
		if !table && width(line) > maxWidth {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// width is in columns.
func width(line string) int {
	columns := 0
	for _, r := range line {
		if r == '\t' {
			columns += tabWidth - columns%tabWidth
		} else {
			columns++
		}
	}
	return columns
}

// compare says which files have more wide lines than before.
func compare(before, now map[string]int) []error {
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if now[name] > before[name] {
			faults = append(faults, fmt.Errorf("%s has %d lines wider than %d columns and may have %d: break the new "+
				"ones",
				name, now[name], maxWidth, before[name]))
		}
	}
	return faults
}

func format(counts map[string]int) []byte {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&b, "%d %s\n", counts[name], name)
	}
	return b.Bytes()
}

func parse(text []byte) (map[string]int, error) {
	counts := map[string]int{}
	for line := range strings.Lines(string(text)) {
		count, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		n, err := strconv.Atoi(count)
		if err != nil || name == "" {
			return nil, fmt.Errorf("%s: %q is no count and file", baseline, line)
		}
		counts[name] = n
	}
	return counts, nil
}
