// Package workspacetest has a workspace in memory, for tests.
package workspacetest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/workspace"
)

// Memory implements workspace.Files. Its files are the same at every place.
type Memory struct {
	mu     sync.Mutex // guards what follows
	files  map[string]string
	links  map[string]string
	broken map[string]error // what is answered about a path
	err    error            // what is answered about everything
	asked  int
	places map[workspace.Place]bool
}

// New makes a workspace of files by their paths.
func New(files map[string]string) *Memory {
	m := &Memory{
		files: map[string]string{}, links: map[string]string{}, broken: map[string]error{},
		places: map[workspace.Place]bool{},
	}
	maps.Copy(m.files, files)
	return m
}

// Write makes or replaces a file.
func (m *Memory) Write(name, content string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[name] = content
}

// Delete removes a file.
func (m *Memory) Delete(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.files, name)
}

// MakeLink makes a path a link. What it leads to is what Write has written at the path.
func (m *Memory) MakeLink(name, target string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.links[name] = target
}

// Break makes every request about a path fail, "" all requests; a nil error ends that.
func (m *Memory) Break(name string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if name == "" {
		m.err = err
		return
	}
	m.broken[name] = err
}

// Asked is how many requests there were, and Places where they went.
func (m *Memory) Asked() (requests int, places []workspace.Place) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked, slices.Collect(maps.Keys(m.places))
}

// Get is the content of a file.
func (m *Memory) Get(name string) (string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	content, ok := m.files[name]
	return content, ok
}

// Names are the paths of all files, sorted.
func (m *Memory) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.files))
}

var (
	notFound = errs.New(errs.NotFound, "NOT_FOUND", "no such file or directory")
	notDir   = errs.New(errs.FailedPrecondition, "NOT_DIR", "not a directory")
)

func (m *Memory) begin(ctx context.Context, at workspace.Place, name string) error {
	m.asked++
	m.places[at] = true
	return errors.Join(ctx.Err(), m.err, m.broken[name])
}

// List implements workspace.Files.
func (m *Memory) List(ctx context.Context, at workspace.Place, name string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, at, name); err != nil {
		return nil, err
	}
	if _, ok := m.files[name]; ok {
		return nil, notDir
	}
	found := map[string]bool{}
	for file := range m.files {
		rest, inside := strings.CutPrefix(file, name+"/")
		if name == "." {
			rest, inside = file, true
		}
		if first, _, _ := strings.Cut(rest, "/"); inside {
			found[first] = true
		}
	}
	if len(found) == 0 && name != "." {
		return nil, notFound
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// Read implements workspace.Files.
func (m *Memory) Read(ctx context.Context, at workspace.Place, name string, most int64) ([]byte, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, at, name); err != nil {
		return nil, 0, err
	}
	content, ok := m.files[name]
	if !ok {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, file := m.files[dir]; file {
				return nil, 0, notDir
			}
		}
		return nil, 0, notFound
	}
	return []byte(content[:min(int64(len(content)), most)]), int64(len(content)), nil
}

// Link implements workspace.Files.
func (m *Memory) Link(ctx context.Context, at workspace.Place, name string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.links[name], m.begin(ctx, at, name)
}

// Pack implements workspace.Files.
func (m *Memory) Pack(ctx context.Context, at workspace.Place, name string, most int64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, at, name); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	found := false
	for _, file := range slices.Sorted(maps.Keys(m.files)) {
		rest, inside := strings.CutPrefix(file, name+"/")
		if !inside {
			continue
		}
		found = true
		h := tar.Header{Typeflag: tar.TypeReg, Name: rest, Mode: 0o644, Size: int64(len(m.files[file]))}
		if target := m.links[file]; target != "" {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, target, 0
		}
		if bare, executable := strings.CutSuffix(rest, "*"); executable {
			h.Name, h.Mode = bare, 0o755
		}
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(w, m.files[file][:h.Size]); err != nil {
			return nil, err
		}
	}
	if _, file := m.files[name]; file {
		return nil, notDir
	}
	if !found {
		return nil, notFound
	}
	err := w.Close()
	return b.Bytes()[:min(int64(b.Len()), most)], err
}

// Remove implements workspace.Files.
func (m *Memory) Remove(ctx context.Context, at workspace.Place, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	gone := func(file, _ string) bool { return file == name || strings.HasPrefix(file, name+"/") }
	maps.DeleteFunc(m.files, gone)
	maps.DeleteFunc(m.links, gone)
	return m.begin(ctx, at, name)
}

// Unpack implements workspace.Files. An executable file gets a * behind its name.
func (m *Memory) Unpack(ctx context.Context, at workspace.Place, name string, archive io.Reader) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, at, name); err != nil {
		return err
	}
	for r := tar.NewReader(archive); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		file := path.Join(name, h.Name)
		if h.Mode&0o111 != 0 {
			file += "*"
		}
		m.files[file] = string(content)
	}
}
