// Package workspace looks at the files of an agent's working directory for what a model is told of them: the
// instructions that are there for agents, skills, and a listing. It also puts the files of skills there.
//
//	executor's files ──Look──▶ Seen ──Tell──▶ the text and the Facts of an entry ──▶ compared with the next Seen
//
// Whoever owns the workspace has written what is there, so a look is bounded in everything that it reads and in how
// long it takes, follows no link out of the workspace, and cannot fail: what cannot be read is told as such.
//
// Invariants: the text of an entry quotes what was read, see skill.Quote; two looks at equal files have equal Facts.
package workspace

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/skill"
)

// Bounds of a look.
const (
	// Patience is how long a look takes at most. What has not come by then was not seen.
	Patience = 2 * time.Second
	maxFile  = 32 << 10 // bytes of instructions
	maxFront = 16 << 10 // bytes of a SKILL.md that are read to list it
	maxNames = 200      // of the listing
	// Bytes of the listing, and of the catalogue of skills.
	maxListing   = 16 << 10
	maxCatalogue = 32 << 10
	maxSkills    = 100
	maxDepth     = 4    // of folders below one of skills
	maxLooked    = 2000 // folders that are looked at for skills
	atOnce       = 8    // requests to the executor
)

// Place is a directory of an executor.
type Place struct {
	Executor string
	Cwd      string // relative to the executor's root unless absolute
}

// Files are those of executors, over their connections. A path is relative to the place. Errors of what is not there
// have the reasons NOT_FOUND and NOT_DIR.
type Files interface {
	// List returns the names in a directory, sorted.
	List(ctx context.Context, at Place, path string) ([]string, error)
	// Read returns the first bytes of a file, at most so many, and its size. Only regular files can be read.
	Read(ctx context.Context, at Place, path string, most int64) (data []byte, size int64, err error)
	// Link returns where a path leads, "" when it is no link. It does not follow it.
	Link(ctx context.Context, at Place, path string) (string, error)
	// Pack is a tar archive of what is in a directory, cut off after so many bytes. Links are in it as links.
	Pack(ctx context.Context, at Place, path string, most int64) ([]byte, error)
	// Remove deletes what has the path, with its content. A link is deleted, and not what it leads to. What is not
	// there is no error.
	Remove(ctx context.Context, at Place, path string) error
	// Unpack writes a tar archive into a directory, which it makes.
	Unpack(ctx context.Context, at Place, path string, archive io.Reader) error
}

// instructions are the files that tell agents how to work in a workspace: the first that is there counts.
var instructions = []string{"AGENTS.md", "CLAUDE.md"}

// folders are those that have skills.
var folders = []string{".agents/skills", ".claude/skills"}

// Seen is what a look has found.
type Seen struct {
	Executor string
	Cwd      string // as it is told: absolute where that is known
	File     File   // with the instructions; its Path is "" when there is none
	Skills   []skill.Found
	More     int // skills beyond maxSkills
	Names    []string
	Listed   bool // Names were looked at
	Total    int  // names in the directory
	// FileUnread and SkillsUnread say why nobody knows what is there; "" when it is known.
	FileUnread, SkillsUnread string
}

// File is a file with instructions, or why it cannot be read.
type File struct {
	Path    string
	Text    string
	Cut     int64 // bytes that are left out
	Problem string
}

// Look looks at a place. With listing it lists the directory, too.
func Look(ctx context.Context, files Files, at Place, cwd string, listing bool) Seen {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	l := &look{ctx: ctx, files: files, at: at, slots: make(chan struct{}, atOnce)}
	var ofFile, ofSkills, ofListing unread
	s := Seen{Executor: at.Executor, Cwd: cwd}
	read := make([]File, len(instructions))
	for i, name := range instructions {
		l.do(&ofFile, func() { read[i] = l.instructions(&ofFile, name) })
	}
	if listing {
		l.do(&ofListing, func() {
			if names, err := files.List(ctx, at, "."); err == nil {
				s.Listed, s.Total = true, len(names)
				s.Names = names[:min(len(names), maxNames)]
			}
		})
	}
	for _, folder := range folders {
		l.do(&ofSkills, func() { l.folder(&ofSkills, folder, 0) })
	}
	l.group.Wait()
	for _, f := range read {
		if f.Path != "" {
			s.File = f
			break
		}
	}
	s.Skills, s.More = arrange(l.found)
	s.FileUnread, s.SkillsUnread = ofFile.why(), ofSkills.why()
	return s
}

// unread is the first reason for which a part of a look is not known now.
type unread struct {
	mu  sync.Mutex // guards err
	err error
}

func (u *unread) note(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err == nil {
		u.err = err
	}
}

// why is read when the look is over.
func (u *unread) why() string {
	if u.err == nil {
		return ""
	}
	return reason(u.err)
}

// look is one look under way.
type look struct {
	ctx   context.Context
	files Files
	at    Place
	group sync.WaitGroup
	slots chan struct{}

	mu     sync.Mutex // guards what follows
	looked int        // folders
	found  []skill.Found
	plain  map[string]bool // paths that are no links
}

// do looks at something beside the others.
func (l *look) do(u *unread, f func()) {
	l.group.Go(func() {
		select {
		case l.slots <- struct{}{}:
			defer func() { <-l.slots }()
			f()
		case <-l.ctx.Done():
			u.note(l.ctx.Err())
		}
	})
}

// absent reports whether an error says that something is not there.
func absent(err error) bool {
	e, answered := errs.Public(err)
	return answered && (e.Reason() == "NOT_FOUND" || e.Reason() == "NOT_DIR")
}

// passing reports whether an error says nothing of what is there.
func passing(err error) bool {
	e, answered := errs.Public(err)
	if !answered {
		return err != nil
	}
	switch e.Code() {
	case errs.Unavailable, errs.ResourceExhausted, errs.DeadlineExceeded, errs.Canceled, errs.Internal:
		return true
	}
	return false
}

func reason(err error) string {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return "the executor did not answer in time"
	}
	if e, ok := errs.Public(err); ok {
		return e.Error()
	}
	return "the executor could not be asked"
}

// read is the beginning of a file, unless it leads out of the workspace.
func (l *look) read(name string, most int64) (data []byte, size int64, err error) {
	data, size, err = l.files.Read(l.ctx, l.at, name, most)
	if err == nil {
		err = l.inside(name)
	}
	return data, size, err
}

func (l *look) instructions(u *unread, name string) File {
	data, size, err := l.read(name, maxFile)
	switch {
	case absent(err):
		return File{}
	case passing(err):
		u.note(err)
		return File{}
	case err != nil:
		return File{Path: name, Problem: reason(err)}
	}
	return File{Path: name, Text: text(data), Cut: max(size-int64(len(data)), 0)}
}

// text is bytes of a file as text: without NUL, and without what a cut has left of a character.
func text(data []byte) string {
	for n := 1; n <= utf8.UTFMax && n <= len(data) && !utf8.FullRune(data[len(data)-n:]); n++ {
		if utf8.RuneStart(data[len(data)-n]) {
			data = data[:len(data)-n]
			break
		}
	}
	return strings.ReplaceAll(strings.ToValidUTF8(string(data), "\ufffd"), "\x00", "\ufffd")
}

// folder looks for skills in a folder, whose depth is counted from the one of skills.
func (l *look) folder(u *unread, folder string, depth int) {
	names, err := l.files.List(l.ctx, l.at, folder)
	if err == nil && len(names) > 0 {
		err = l.inside(folder)
	}
	switch {
	case passing(err):
		u.note(err)
	case errors.Is(err, errOutside):
		names = nil
		l.add(skill.Found{Skill: skill.Skill{Name: path.Base(folder)}, Path: folder, Problem: reason(err)})
	}
	for _, name := range names {
		if strings.HasPrefix(name, ".") || name == "node_modules" {
			continue
		}
		l.mu.Lock()
		l.looked++
		enough := l.looked > maxLooked
		l.mu.Unlock()
		if enough {
			return
		}
		l.do(u, func() { l.skill(u, path.Join(folder, name), depth+1) })
	}
}

// skill reads the skill in a folder, or looks for skills further down.
func (l *look) skill(u *unread, folder string, depth int) {
	file := path.Join(folder, skill.FileName)
	data, _, err := l.read(file, maxFront)
	switch {
	case absent(err):
		if depth < maxDepth {
			l.folder(u, folder, depth) // of a file it is absent
		}
		return
	case passing(err):
		u.note(err)
		return
	}
	found := skill.Found{Skill: skill.Skill{Name: path.Base(folder)}, Path: file}
	if err != nil {
		found.Problem = reason(err)
	} else {
		found = skill.Find(file, []byte(text(data)))
	}
	found.Body = "" // it is read when the skill is activated
	l.add(found)
}

func (l *look) add(f skill.Found) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.found = append(l.found, f)
}

// arrange puts skills in order and makes their names unique: the first by path has a name.
func arrange(found []skill.Found) (skills []skill.Found, more int) {
	slices.SortFunc(found, func(a, b skill.Found) int { return strings.Compare(a.Path, b.Path) })
	seen := map[string]string{}
	for i := range found {
		f := &found[i]
		if other := seen[f.Name]; other != "" && f.Problem == "" {
			f.Problem = other + " has the same name"
		} else if f.Problem == "" {
			seen[f.Name] = f.Path
		}
	}
	if len(found) > maxSkills {
		return found[:maxSkills], len(found) - maxSkills
	}
	return found, 0
}

// Facts are what is kept of a look beside its text, to compare the next one with. A hash is "" while it is not known
// what is there.
type Facts struct {
	Executor string  `json:"executor"`
	Cwd      string  `json:"cwd"`
	File     string  `json:"file,omitempty"`        // path of the instructions
	FileHash string  `json:"file_sha256,omitempty"` // of what was told of them
	Skills   []Known `json:"skills,omitempty"`
	Hash     string  `json:"skills_sha256,omitempty"` // of what was told of the skills
}

// Known is a skill of a workspace that can be activated.
type Known struct {
	Name     string   `json:"name"`
	Path     string   `json:"path"`
	Warnings []string `json:"warnings,omitempty"` // what is wrong with it that does not matter
}

// Find is a skill by its name.
func (f *Facts) Find(name string) (Known, bool) {
	i := slices.IndexFunc(f.Skills, func(k Known) bool { return k.Name == name })
	if i < 0 {
		return Known{}, false
	}
	return f.Skills[i], true
}

func hash(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}
