package work

import (
	"io"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/plaintext"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

const (
	maxEdit = 8 << 20 // of a file that is edited, and of what becomes of it
	maxDiff = 64 << 10
)

// editFile replaces literal text. The path is locked from the read to the commit, so that edits at the same time all
// survive.
func (s *Service) editFile(c *call, v *pawlv1.EditFile) (*pawlv1.Result_Edit, error) {
	path := s.path(c, v.GetPath())
	switch {
	case v.GetOldText() == "":
		return nil, sandbox.ErrInvalidArg.With("%s: the old text is empty; use a write to make a file", v.GetPath())
	case v.GetOldText() == v.GetNewText():
		return nil, sandbox.ErrInvalidArg.With("%s: the old and the new text are the same", v.GetPath())
	}
	unlock, err := s.lockPath(c.ctx, path)
	if err != nil {
		return nil, err
	}
	defer unlock()
	content, err := s.readWhole(c, path, maxEdit)
	if err != nil {
		return nil, err
	}
	edited, err := apply(content, v)
	if err != nil {
		return nil, err
	}
	w, err := s.cfg.Sandbox.Create(c.ctx, path)
	if err != nil {
		return nil, err
	}
	defer w.Abort()
	if _, err := w.Write(edited.File); err != nil {
		return nil, err
	}
	diff := unified(v.GetPath(), []byte(edited.Before), []byte(edited.Old), []byte(edited.New))
	if err := w.Commit(); err != nil {
		return nil, err
	}
	return &pawlv1.Result_Edit{Edit: &pawlv1.EditResult{
		Replacements: int32(edited.Count), Diff: diff, Note: edited.Note,
	}}, nil
}

// apply makes the new content of a file.
func apply(content []byte, v *pawlv1.EditFile) (*plaintext.Edited, error) {
	edited, err := plaintext.Parse(content).Apply(plaintext.Edit{
		Old: v.GetOldText(), New: v.GetNewText(), All: v.GetReplaceAll(),
	})
	switch {
	case err != nil:
		return nil, sandbox.ErrInvalidArg.With("%s: %v", v.GetPath(), err)
	case len(edited.File) > maxEdit:
		return nil, sandbox.ErrTooLarge.With("%s: the edited file would have %d bytes; files up to %d can be edited",
			v.GetPath(), len(edited.File), maxEdit)
	}
	return edited, nil
}

// readWhole is a file of at most so many bytes.
func (s *Service) readWhole(c *call, path string, most int64) ([]byte, error) {
	f, _, err := s.cfg.Sandbox.Open(c.ctx, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(ctxReader{c.ctx, f}, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, sandbox.ErrTooLarge.With("%s: is larger than %d bytes, which is the most that can be read at once",
			path, most)
	}
	return b, nil
}
