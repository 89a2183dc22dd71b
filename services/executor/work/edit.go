package work

import (
	"bytes"
	"io"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

const (
	maxEdit = 8 << 20 // of a file that is edited, and of what becomes of it
	maxDiff = 64 << 10
)

// editFile replaces literal text. The path is locked from the read to the commit, so that edits at the same time all survive.
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
	content, err := s.readWhole(c, path)
	if err != nil {
		return nil, err
	}
	n, err := find(content, v)
	if err != nil {
		return nil, err
	}
	if size := int64(len(content)) + int64(n)*int64(len(v.GetNewText())-len(v.GetOldText())); size > maxEdit {
		return nil, sandbox.ErrTooLarge.With("%s: the edited file would have %d bytes; files up to %d can be edited", v.GetPath(), size, maxEdit)
	}
	w, err := s.cfg.Sandbox.Create(c.ctx, path)
	if err != nil {
		return nil, err
	}
	defer w.Abort()
	edited := bytes.ReplaceAll(content, []byte(v.GetOldText()), []byte(v.GetNewText()))
	if _, err := w.Write(edited); err != nil {
		return nil, err
	}
	diff := unified(v.GetPath(), content, []byte(v.GetOldText()), []byte(v.GetNewText()))
	if err := w.Commit(); err != nil {
		return nil, err
	}
	return &pawlv1.Result_Edit{Edit: &pawlv1.EditResult{Replacements: int32(n), Diff: diff}}, nil
}

func (s *Service) readWhole(c *call, path string) ([]byte, error) {
	f, _, err := s.cfg.Sandbox.Open(c.ctx, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(ctxReader{c.ctx, f}, maxEdit+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxEdit {
		return nil, sandbox.ErrTooLarge.With("%s: is larger than %d bytes, which is the most that can be edited", path, maxEdit)
	}
	return b, nil
}

// find counts the old text, from left to right and without overlap.
func find(content []byte, v *pawlv1.EditFile) (int, error) {
	old := []byte(v.GetOldText())
	n := bytes.Count(content, old)
	switch {
	case n == 0 && bytes.Contains(content, bytes.ReplaceAll(old, []byte("\n"), []byte("\r\n"))):
		return 0, sandbox.ErrInvalidArg.With("%s: the old text was not found; the file's lines end in CRLF (\\r\\n)", v.GetPath())
	case n == 0:
		return 0, sandbox.ErrInvalidArg.With("%s: the old text was not found; it must match exactly, whitespace included", v.GetPath())
	case n > 1 && !v.GetReplaceAll():
		return 0, sandbox.ErrInvalidArg.With("%s: the old text was found %d times; give more of the text around it, or replace all", v.GetPath(), n)
	}
	return n, nil
}
