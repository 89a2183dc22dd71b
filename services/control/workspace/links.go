package workspace

import (
	"path"
	"strings"

	"github.com/pawl-dev/pawl/internal/errs"
)

// maxLinks bounds the links on the way to a file.
const maxLinks = 8

var errOutside = errs.New(errs.FailedPrecondition, "OUTSIDE", "is a link out of the workspace, which is not followed")

// inside refuses a path that leads out of the workspace, over whichever links, on the way or at the end. It goes from
// name to name as the executor's system does. A path that leads nowhere is inside.
func (l *look) inside(name string) error {
	at, rest := ".", strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		next := rest[0]
		rest = rest[1:]
		switch {
		case next == "" || next == ".":
			continue
		case next == ".." && at == ".":
			return errOutside
		case next == "..":
			at = path.Dir(at)
			continue
		}
		target, err := l.link(path.Join(at, next))
		switch {
		case absent(err):
			return nil
		case err != nil:
			return err
		case target == "":
			at = path.Join(at, next)
			continue
		case path.IsAbs(target) || links == maxLinks:
			return errOutside
		}
		links++
		rest = append(strings.Split(target, "/"), rest...)
	}
	return nil
}

// link is where a path leads, "" when it is no link.
func (l *look) link(name string) (string, error) {
	l.mu.Lock()
	plain := l.plain[name]
	l.mu.Unlock()
	if plain {
		return "", nil
	}
	target, err := l.files.Link(l.ctx, l.at, name)
	if err == nil && target == "" {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.plain == nil {
			l.plain = map[string]bool{}
		}
		l.plain[name] = true
	}
	return target, err
}
