package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/internal/proctest"
)

// patch replaces a text that is there exactly once.
type patch struct{ file, old, new string }

// mutant is a build that breaks a rule, and the run that has to find out.
type mutant struct {
	name    string
	patches []patch
	expect  []string // invariants, of which at least one must fall; none: it is harmless, and nothing may
	mix     string
	seconds int
	seeds   []uint64 // tried one after the other
}

// overlay writes the patched files into dir and what go build needs to know of them. root is the module's.
func (m mutant) overlay(root, dir string) (file string, err error) {
	texts := map[string]string{}
	for _, p := range m.patches {
		path := filepath.Join(root, p.file)
		if _, read := texts[path]; !read {
			b, err := os.ReadFile(path)
			if err != nil {
				return "", err
			}
			texts[path] = string(b)
		}
		if n := strings.Count(texts[path], p.old); n != 1 {
			return "", fmt.Errorf("mutant %q: its old text is %d times in %s, not once:\n%s", m.name, n, p.file, p.old)
		}
		texts[path] = strings.Replace(texts[path], p.old, p.new, 1)
	}
	replaced := map[string]string{}
	for path, text := range texts {
		to := filepath.Join(dir, fmt.Sprintf("%d.go", len(replaced)))
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			return "", err
		}
		replaced[path] = to
	}
	b, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		return "", err
	}
	file = filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, b, 0o600)
}

// verdict is what came of a mutant.
type verdict struct {
	mutant
	seed  uint64
	took  time.Duration // of the run that found it
	broke map[string]int
	first string
	good  bool
}

// runMutants runs all mutants, or the one that is asked for, and tells which were found out.
func runMutants(ctx context.Context, o options, only string) (good bool, err error) {
	root, err := os.Getwd()
	if err != nil {
		return false, err
	}
	good = true
	var all []verdict
	for _, m := range mutants {
		if only != "" && !strings.Contains(m.name, only) {
			continue
		}
		v, err := o.mutant(ctx, root, m)
		if err != nil {
			return false, fmt.Errorf("mutant %q: %w", m.name, err)
		}
		all = append(all, v)
		good = good && v.good
		_, _ = fmt.Fprintln(o.out, v)
	}
	if len(all) == 0 {
		return false, fmt.Errorf("there is no mutant %q", only)
	}
	_, _ = io.WriteString(o.out, table(all))
	return good, nil
}

// mutant builds one mutant and runs it until it is found out or its seeds are used up.
func (o *options) mutant(ctx context.Context, root string, m mutant) (v verdict, err error) {
	v = verdict{mutant: m, good: len(m.expect) == 0}
	dir, err := os.MkdirTemp("/var/tmp", "chaos-")
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	overlay, err := m.overlay(root, dir)
	if err != nil {
		return v, err
	}
	programs := filepath.Join(dir, "bin")
	if err := proctest.Programs(ctx, programs, proctest.Build{Race: o.race, Overlay: overlay}, "control",
		"executor"); err != nil {
		return v, err
	}
	for i, seed := range m.seeds {
		run := *o
		run.seed, run.mix, run.length, run.patience = seed, m.mix, time.Duration(m.seconds)*time.Second, mutantPatience
		r, err := run.run(ctx, filepath.Join(dir, fmt.Sprint("run", i)), programs)
		if err != nil {
			return v, err
		}
		if o.verbose {
			r.print(o.out)
		}
		v.seed, v.took, v.broke = seed, r.took, map[string]int{}
		for _, x := range r.violations {
			v.broke[x.Invariant]++
			if v.first == "" && (slices.Contains(m.expect, x.Invariant) || len(m.expect) == 0) {
				v.first = fmt.Sprintf("%s %s: %s", x.Invariant, x.Where, x.What)
			}
		}
		found := slices.ContainsFunc(m.expect, func(inv string) bool { return v.broke[inv] > 0 })
		if len(m.expect) == 0 {
			v.good = v.good && len(r.violations) == 0
		}
		if found {
			v.good = true
			break
		}
	}
	return v, nil
}

// mutantPatience is how long a mutant may settle nothing. Some never settle what they should.
const mutantPatience = 35 * time.Second

// String tells one verdict in a line.
func (v verdict) String() string {
	state := "FOUND"
	switch {
	case len(v.expect) == 0 && v.good:
		state = "HARMLESS"
	case !v.good:
		state = "NOT AS EXPECTED"
	}
	what := v.first
	if len(what) > 300 {
		what = what[:300] + "…"
	}
	return fmt.Sprintf("%s: %s (seed %d, %.0f s) %s", v.name, state, v.seed, v.took.Seconds(), what)
}

func table(all []verdict) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-52s %-10s %-34s %s\n", "mutant", "expected", "found", "seed, duration")
	for _, v := range all {
		var found []string
		for _, inv := range sortedKeys(v.broke) {
			found = append(found, fmt.Sprintf("%s×%d", inv, v.broke[inv]))
		}
		expected, mark := strings.Join(v.expect, " "), ""
		if len(v.expect) == 0 {
			expected = "nothing"
		}
		if !v.good {
			mark = "  <── not as expected"
		}
		fmt.Fprintf(&b, "%-52s %-10s %-34s %d, %.0f s%s\n", v.name, expected, strings.Join(found, " "), v.seed,
			v.took.Seconds(), mark)
	}
	return b.String()
}
