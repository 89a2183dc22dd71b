// Command licenses checks that every module which the packages of the current directory build or test with is under a
// licence that Pawl may ship: permissive, or MPL-2.0. It reads the licence files in the module cache and prints what it
// found.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// exceptions are modules whose licence file this program cannot read, after a look by a person.
var exceptions = map[string]string{}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1)
	}
}

func run() error {
	modules, err := used()
	if err != nil {
		return err
	}
	count, refused := map[string]int{}, 0
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		licence, err := exceptions[path], error(nil)
		if licence == "" {
			licence, err = ofModule(modules[path])
		}
		if err != nil {
			refused++
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
			continue
		}
		count[licence]++
	}
	if refused > 0 {
		return fmt.Errorf("%d of %d modules may not be used", refused, len(modules))
	}
	for _, licence := range slices.Sorted(maps.Keys(count)) {
		fmt.Printf("%4d %s\n", count[licence], licence)
	}
	return nil
}

// used maps the path of each module to its directory. Modules that are only named in go.mod files do not count.
func used() (map[string]string, error) {
	cmd := exec.Command("go", "list", "-deps", "-test", "-f", "{{with .Module}}{{if not "+
		".Main}}{{.Path}}\t{{.Dir}}{{end}}{{end}}", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	modules := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		if path, dir, ok := strings.Cut(lines.Text(), "\t"); ok {
			modules[path] = dir
		}
	}
	return modules, lines.Err()
}

// ofModule names the licences in a module's root. A file that says nothing known is let pass beside one that does (a
// logo's origin, an author's note); a licence that is not allowed never is.
func ofModule(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var found []string
	for _, entry := range entries {
		if entry.IsDir() || !licenceFile(entry.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return "", err
		}
		licences, err := classify(string(text))
		if err != nil && !errors.Is(err, errUnknown) {
			return "", fmt.Errorf("%s: %w", entry.Name(), err)
		}
		found = append(found, licences...)
	}
	if len(found) == 0 {
		return "", fmt.Errorf("%w: %s", errUnknown, dir)
	}
	slices.Sort(found)
	return strings.Join(slices.Compact(found), " and "), nil
}

func licenceFile(name string) bool {
	name = strings.ToUpper(name)
	return strings.HasPrefix(name, "LICENSE") || strings.HasPrefix(name, "LICENCE") ||
		strings.HasPrefix(name, "COPYING") || name == "UNLICENSE"
}
