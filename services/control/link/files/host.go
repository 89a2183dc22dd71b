package files

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/workspace"
)

// hostLimit is how many transfers of a Host run at once at one executor: the others are left to clients, see Limit.
const hostLimit = 16

// Host is the files of executors for this process itself. It implements workspace.Files.
type Host struct {
	// Do runs a verb at an executor, wherever it is connected.
	Do func(ctx context.Context, q *Request) (*pawlv1.Result, error)

	mu    sync.Mutex // guards gates
	gates map[string]*gate
}

// gate lets a few through at once.
type gate struct {
	places chan struct{}
	users  int // who have a place or wait for one
}

// enter waits for a place at an executor, until ctx ends.
func (h *Host) enter(ctx context.Context, executor string) (leave func(), err error) {
	h.mu.Lock()
	if h.gates == nil {
		h.gates = map[string]*gate{}
	}
	g := h.gates[executor]
	if g == nil {
		g = &gate{places: make(chan struct{}, hostLimit)}
		h.gates[executor] = g
	}
	g.users++
	h.mu.Unlock()
	gone := func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if g.users--; g.users == 0 {
			delete(h.gates, executor)
		}
	}
	select {
	case g.places <- struct{}{}:
		return func() { <-g.places; gone() }, nil
	case <-ctx.Done():
		gone()
		return nil, ctx.Err()
	}
}

func (h *Host) do(ctx context.Context, at workspace.Place, q Request) (*pawlv1.Result, error) {
	leave, err := h.enter(ctx, at.Executor)
	if err != nil {
		return nil, err
	}
	defer leave()
	q.Executor, q.Verb.Cwd = at.Executor, at.Cwd
	return h.Do(ctx, &q)
}

// List implements workspace.Files.
func (h *Host) List(ctx context.Context, at workspace.Place, path string) ([]string, error) {
	res, err := h.do(ctx, at, Request{Verb: &pawlv1.Execute{Verb: &pawlv1.Execute_ReadDir{
		ReadDir: &pawlv1.ReadDir{Path: path},
	}}})
	if err != nil {
		return nil, err
	}
	all := res.GetNames().GetNames()
	names := make([]string, len(all))
	for i, n := range all {
		names[i] = strings.ToValidUTF8(string(n), "\ufffd")
	}
	return names, nil
}

// Read implements workspace.Files.
func (h *Host) Read(ctx context.Context, at workspace.Place, path string, most int64) ([]byte, int64, error) {
	var data bytes.Buffer
	var size int64
	_, err := h.do(ctx, at, Request{
		Verb: &pawlv1.Execute{Verb: &pawlv1.Execute_ReadFile{
			ReadFile: &pawlv1.ReadFile{Path: path, Length: proto.Int64(most)},
		}},
		Opened: func(f Facts) error {
			if f.Size != nil {
				size = *f.Size
			}
			return nil
		},
		Take: func(_ pawlv1.Stream, piece []byte) error {
			if int64(data.Len()+len(piece)) > most {
				return ErrExecutor.With("it sent more of %s than was asked for", path)
			}
			data.Write(piece)
			return nil
		},
	})
	if err != nil {
		return nil, 0, err
	}
	if n := int64(data.Len()); size < n { // it is not known
		size = n
	}
	return data.Bytes(), size, nil
}

// Link implements workspace.Files.
func (h *Host) Link(ctx context.Context, at workspace.Place, path string) (string, error) {
	res, err := h.do(ctx, at, Request{Verb: &pawlv1.Execute{Verb: &pawlv1.Execute_Stat{
		Stat: &pawlv1.Stat{Path: path},
	}}})
	if err != nil {
		return "", err
	}
	if s := res.GetStat(); s.GetIsSymlink() {
		return s.GetLinkTarget(), nil
	}
	return "", nil
}

// Pack implements workspace.Files.
func (h *Host) Pack(ctx context.Context, at workspace.Place, path string, most int64) ([]byte, error) {
	var data bytes.Buffer
	full := false
	_, err := h.do(ctx, at, Request{
		Verb: &pawlv1.Execute{Verb: &pawlv1.Execute_ReadFile{
			ReadFile: &pawlv1.ReadFile{Path: path, Archive: pawlv1.Archive_ARCHIVE_TAR},
		}},
		Opened: func(Facts) error { return nil },
		Take: func(_ pawlv1.Stream, piece []byte) error {
			data.Write(piece[:min(int64(len(piece)), most-int64(data.Len()))])
			if full = int64(data.Len()) == most; full {
				return errEnough
			}
			return nil
		},
	})
	if err != nil && !full {
		return nil, err
	}
	return data.Bytes(), nil
}

// errEnough ends a transfer of which nothing more is wanted.
var errEnough = errors.New("enough")

// Remove implements workspace.Files.
func (h *Host) Remove(ctx context.Context, at workspace.Place, path string) error {
	_, err := h.do(ctx, at, Request{Verb: &pawlv1.Execute{Verb: &pawlv1.Execute_Remove{
		Remove: &pawlv1.Remove{Path: path, Recursive: true, Force: true},
	}}})
	return err
}

// Unpack implements workspace.Files.
func (h *Host) Unpack(ctx context.Context, at workspace.Place, path string, archive io.Reader) error {
	piece := make([]byte, 64<<10)
	_, err := h.do(ctx, at, Request{
		Verb: &pawlv1.Execute{Verb: &pawlv1.Execute_WriteFile{WriteFile: &pawlv1.WriteFile{
			Path: path, Chunked: true, Archive: pawlv1.Archive_ARCHIVE_TAR,
		}}},
		Next: func() (*pawlv1.Input, error) {
			n, err := io.ReadFull(archive, piece)
			switch err { //nolint:errorlint // ReadFull returns these as they are
			case nil:
				return &pawlv1.Input{Data: bytes.Clone(piece[:n])}, nil
			case io.EOF, io.ErrUnexpectedEOF:
				return &pawlv1.Input{Data: bytes.Clone(piece[:n]), Last: true}, nil
			}
			return nil, err
		},
	})
	return err
}
