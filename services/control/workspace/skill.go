package workspace

import (
	"archive/tar"
	"bytes"
	"context"
	"path"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/services/control/skill"
)

// PutPatience is how long it may take to put the files of a skill into a workspace, or to read one there.
const PutPatience = 30 * time.Second

const (
	putFolder = ".pawl/skills"
	// whole is the last file of a skill's folder: where it is, all others are.
	whole = ".complete"
	// maxListed bounds the files of a skill that are listed for a model.
	maxListed = 100
)

// Put makes the files of a skill of the project be in a workspace, and returns their folder. They are put there once:
// the folder's name has the digest of the files, and its last file says that it is whole. So a folder that was put
// there in part, because somebody died, is put there again, and nobody is told of it before it is whole.
func Put(ctx context.Context, files Files, at Place, s *skill.Skill) (folder string, err error) {
	ctx, cancel := context.WithTimeout(ctx, PutPatience)
	defer cancel()
	folder = path.Join(putFolder, s.Folder())
	// A link could have somebody else's files written, or be told as the skill's.
	if err := (&look{ctx: ctx, files: files, at: at}).inside(folder); err != nil {
		return "", err
	}
	there, err := files.Exists(ctx, at, path.Join(folder, whole))
	if err != nil || there {
		return folder, err
	}
	archive, err := pack(s)
	if err != nil {
		return "", err
	}
	return folder, files.Unpack(ctx, at, putFolder, archive)
}

// pack is the archive of a skill's folder, and of a file that keeps the folder of all skills out of git.
func pack(s *skill.Skill) (*bytes.Buffer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(name string, mode int64, data []byte) error {
		err := w.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data)), Format: tar.FormatPAX,
		})
		if err == nil {
			_, err = w.Write(data)
		}
		return err
	}
	if err := add(".gitignore", 0o644, []byte("*\n")); err != nil {
		return nil, err
	}
	for _, f := range s.Files {
		mode := int64(0o644)
		if f.Executable {
			mode = 0o755
		}
		if err := add(path.Join(s.Folder(), f.Path), mode, f.Data); err != nil {
			return nil, err
		}
	}
	if err := add(path.Join(s.Folder(), whole), 0o644, nil); err != nil {
		return nil, err
	}
	return &b, w.Close()
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
