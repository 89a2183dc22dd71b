package workspace

import (
	"bytes"
	"context"
	"path"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/bundle"
	"github.com/pawl-dev/pawl/services/control/skill"
)

// PutPatience is how long it may take to put the files of a skill into a workspace, or to read one there.
const PutPatience = 30 * time.Second

const (
	putFolder = ".pawl/skills"
	// maxListed bounds the files of a skill that are listed for a model.
	maxListed = 100
)

// Folder is a folder that is put into workspaces.
type Folder struct {
	Under string // from the working directory
	Name  string // which tells versions apart, see bundle.Folder
	Files []bundle.File
}

// OfSkill is the folder of a skill of the project.
func OfSkill(s *skill.Skill) Folder {
	return Folder{Under: putFolder, Name: s.Folder(), Files: s.Files}
}

// Put makes a folder of the project be in a workspace, and returns its path. What is there already is read and
// compared: whoever owns the workspace could have put anything under the name. What is missing or different is
// written, and a folder that has anything else is replaced. So one that was put there in part, because somebody died,
// is mended by the next Put, and nobody is told of it before it is whole.
func Put(ctx context.Context, files Files, at Place, f Folder) (folder string, err error) {
	ctx, cancel := context.WithTimeout(ctx, PutPatience)
	defer cancel()
	folder = path.Join(f.Under, f.Name)
	// A link could have somebody else's files written, or be told as the folder. What is in the home directory is
	// the executor's own.
	if !strings.HasPrefix(folder, "~/") {
		if err := (&look{ctx: ctx, files: files, at: at}).inside(folder); err != nil {
			return "", err
		}
	}
	found, err := compare(ctx, files, at, folder, f.Files)
	if err != nil || found == bundle.Same {
		return folder, err
	}
	if found == bundle.Alien {
		if err := files.Remove(ctx, at, folder); err != nil {
			return "", err
		}
	}
	archive, err := bundle.Pack(".", append([]bundle.File{
		{Path: ".gitignore", Data: []byte("*\n")}, // it keeps the folder of all out of git
	}, below(f.Name, f.Files)...))
	if err != nil {
		return "", err
	}
	return folder, files.Unpack(ctx, at, f.Under, archive)
}

// compare is how a folder of a workspace differs from what it should be.
func compare(
	ctx context.Context, files Files, at Place, folder string, want []bundle.File,
) (bundle.Found, error) {
	archive, err := files.Pack(ctx, at, folder, bundle.Size(want))
	switch e, answered := errs.Public(err); {
	case answered && e.Reason() == "NOT_FOUND":
		return bundle.Lacking, nil
	case answered && e.Reason() == "NOT_DIR":
		return bundle.Alien, nil
	case err != nil:
		return bundle.Alien, err
	}
	found, err := bundle.Compare(bytes.NewReader(archive), want)
	if err != nil { // it is larger than it should be
		return bundle.Alien, nil //nolint:nilerr // what cannot be compared is replaced
	}
	return found, nil
}

// below are files in a folder.
func below(folder string, files []bundle.File) []bundle.File {
	all := make([]bundle.File, len(files))
	for i, f := range files {
		all[i] = f
		all[i].Path = path.Join(folder, f.Path)
	}
	return all
}

// ReadSkill reads a skill of a workspace, whose SKILL.md is at a path, and the names in its folder.
func ReadSkill(ctx context.Context, files Files, at Place, file string) (f skill.Found, names []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, PutPatience)
	defer cancel()
	l := &look{ctx: ctx, files: files, at: at}
	data, _, err := l.read(file, skill.MaxBody+maxFront)
	if err != nil {
		return f, nil, err
	}
	f = skill.Find(file, []byte(text(data)))
	all, err := files.List(ctx, at, path.Dir(file))
	for _, name := range all {
		if name != skill.FileName && !strings.HasPrefix(name, ".") {
			names = append(names, name)
		}
	}
	return f, names, err
}

// Instructions is what a model is told of a skill that is activated: its instructions, where its files are and which,
// the arguments, and notes.
func Instructions(s *skill.Skill, source skill.Source, folder string, files []string, notes ...string) string {
	parts := []string{skill.Quote("skill_instructions", []skill.Attribute{
		{Name: "name", Value: s.Name}, {Name: "of", Value: string(source)}, {Name: "folder", Value: folder},
	}, s.Body)}
	if folder != "" && len(files) > 0 {
		lines := make([]string, min(len(files), maxListed))
		for i := range lines {
			lines[i] = skill.Line(files[i])
		}
		if len(files) > maxListed {
			lines = append(lines, "...")
		}
		lines = lines[:within(lines, maxListing/4)]
		parts = append(parts, "Files in "+skill.Inert(skill.Line(folder))+":\n"+
			skill.Quote("skill_files", nil, strings.Join(lines, "\n")))
	}
	for _, note := range notes {
		if note != "" {
			parts = append(parts, note)
		}
	}
	return strings.Join(parts, "\n\n")
}
