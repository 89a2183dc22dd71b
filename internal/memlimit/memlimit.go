// Package memlimit tells the garbage collector how much memory the process may have: the limit of the container that it
// runs in, which the Go runtime does not look for. Without it, a process whose heap grows may be killed where a
// collection would have made room.
package memlimit

import (
	"bufio"
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// headroom is the part of a container's limit that is left for what the runtime does not count: the pages of files and
// the kernel's buffers.
const headroom = 10 // one in ten

// Apply sets the collector's limit to most of the container's, unless GOMEMLIMIT says what the limit is. It logs what
// it did. Call it once, at the start.
func Apply(log *slog.Logger) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	limit, err := Limit(os.DirFS("/"))
	switch {
	case err != nil:
		log.Debug("whether a container limits the memory is not known", "error", err)
	case limit > 0:
		limit -= limit / headroom
		debug.SetMemoryLimit(limit)
		log.Debug("memory is collected for the container's limit", "bytes", limit)
	}
}

// Limit is the smallest limit of the control groups that this process is in, in bytes, by version 1 or 2 of their
// interface; 0 when there is none. root is the file system's root.
func Limit(root fs.FS) (int64, error) {
	membership, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0, err
	}
	mounts, err := fs.ReadFile(root, "proc/self/mountinfo")
	if err != nil {
		return 0, err
	}
	groups := groupsOf(membership)
	var smallest int64
	for line := range bytes.Lines(mounts) {
		m, ok := parseMount(string(line))
		if !ok {
			continue
		}
		for _, dir := range m.path(groups[m.version]) {
			for _, name := range m.version.files() {
				if limit := read(root, path.Join(dir, name)); limit > 0 && (smallest == 0 || limit < smallest) {
					smallest = limit
				}
			}
		}
	}
	return smallest, nil
}

// version of the interface of control groups.
type version int

const (
	v1 version = 1
	v2 version = 2
)

// files are those that hold limits. Above memory.high the kernel slows a process down without end.
func (v version) files() []string {
	if v == v1 {
		return []string{"memory.limit_in_bytes"}
	}
	return []string{"memory.max", "memory.high"}
}

// groupsOf is the group that bounds this process's memory, by version, from lines "number:controllers:path".
func groupsOf(membership []byte) map[version]string {
	groups := map[version]string{}
	for s := bufio.NewScanner(bytes.NewReader(membership)); s.Scan(); {
		_, rest, _ := strings.Cut(s.Text(), ":")
		controllers, group, ok := strings.Cut(rest, ":")
		switch {
		case !ok:
		case controllers == "":
			groups[v2] = group
		case contains(controllers, "memory"):
			groups[v1] = group
		}
	}
	return groups
}

func contains(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}

// mount is a place where control groups can be read.
type mount struct {
	version version
	group   string // that is mounted, "/" is all
	point   string
}

// parseMount reads a line "id parent device root point options [tags] - type source options" of mountinfo.
func parseMount(line string) (mount, bool) {
	before, after, ok := strings.Cut(line, " - ")
	place, kind := strings.Fields(before), strings.Fields(after)
	if !ok || len(place) < 5 || len(kind) < 3 {
		return mount{}, false
	}
	m := mount{group: unescape(place[3]), point: unescape(place[4])}
	switch {
	case kind[0] == "cgroup2":
		m.version = v2
	case kind[0] == "cgroup" && contains(kind[2], "memory"):
		m.version = v1
	default:
		return mount{}, false
	}
	return m, true
}

// unescape undoes what mountinfo does to blanks.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\134`, `\`).Replace(s)
}

// path are the folders of a group and all above it, as far as the mount shows them.
func (m mount) path(group string) []string {
	if group == "" {
		return nil
	}
	below, inside := strings.CutPrefix(group, m.group)
	if !inside || m.group != "/" && below != "" && below[0] != '/' {
		below = "" // the process's own group is the mount's root, as in a container with its own view
	}
	top := strings.TrimPrefix(m.point, "/")
	var all []string
	for dir := path.Join("/", below); ; dir = path.Dir(dir) {
		all = append(all, path.Join(top, dir))
		if dir == "/" {
			return all
		}
	}
}

// read is a limit; 0 for none, which version 1 writes as a number that no machine has.
func read(root fs.FS, name string) int64 {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return 0 // the root group has no such file
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	const none = 1 << 60
	if err != nil || n <= 0 || n >= none {
		return 0
	}
	return n
}
