package worktest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// Pack implements sandbox.Sandbox.
func (b *Box) Pack(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := b.enter(ctx); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.dir(abs(name)) {
		return nil, sandbox.ErrNotFound.With("%s: no such file or directory", name)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range slices.Sorted(maps.Keys(b.files)) {
		if rest, ok := strings.CutPrefix(f, strings.TrimSuffix(abs(name), "/")+"/"); ok {
			h := &tar.Header{Typeflag: tar.TypeReg, Name: rest, Mode: 0o644, Size: int64(len(b.files[f]))}
			if err := w.WriteHeader(h); err != nil {
				return nil, err
			}
			if _, err := w.Write(b.files[f]); err != nil {
				return nil, err
			}
		}
	}
	return io.NopCloser(&out), w.Close()
}

// Unpack implements sandbox.Sandbox.
func (b *Box) Unpack(ctx context.Context, name string, archive io.Reader) error {
	if err := b.enter(ctx); err != nil {
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
		b.Put(abs(name)+"/"+h.Name, string(content))
	}
}
