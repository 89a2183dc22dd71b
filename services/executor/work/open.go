package work

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// maxKnown bounds the files whose hash is told before they are sent. They are read as a whole first, so that the hash
// is that of what is sent.
const maxKnown = 256 << 10

// fileFacts are what is known of a whole file before any of it is sent. A size of nil is unknown, and an empty hash.
type fileFacts struct {
	size *int64
	sum  []byte
}

// opened is what the watcher of a ReadFile gets.
type opened struct {
	io.Reader
	io.Closer
	facts fileFacts
}

// open opens what a ReadFile asks for.
func open(ctx context.Context, sb sandbox.Sandbox, path string, v *pawlv1.ReadFile) (opened, error) {
	if v.GetArchive() == pawlv1.Archive_ARCHIVE_TAR {
		r, err := sb.Pack(ctx, path)
		return opened{Reader: r, Closer: r}, err
	}
	f, info, err := sb.Open(ctx, path)
	if err != nil {
		return opened{}, err
	}
	o := opened{Closer: f}
	if err := o.begin(f, info.Size, v); err != nil {
		return opened{}, errors.Join(err, f.Close())
	}
	return o, nil
}

// begin finds out what there is to know of the file, and where its part begins.
func (o *opened) begin(f io.ReadSeeker, size int64, v *pawlv1.ReadFile) error {
	length := int64(math.MaxInt64)
	if v.Length != nil {
		length = max(0, v.GetLength())
	}
	if size > maxKnown {
		o.facts.size = &size
		_, err := f.Seek(position(v.GetOffset(), size), io.SeekStart)
		o.Reader = io.LimitReader(f, length)
		return err
	}
	// Files of the kernel have no size, whatever they hold.
	whole, err := io.ReadAll(io.LimitReader(f, maxKnown+1))
	if err != nil {
		return err
	}
	if len(whole) > maxKnown { // it has grown, or is one of the kernel's
		at, err := f.Seek(position(v.GetOffset(), size), io.SeekStart)
		if err != nil {
			return err
		}
		if size > at {
			o.facts.size = &size
		}
		o.Reader = io.LimitReader(f, length)
		return nil
	}
	size = int64(len(whole))
	sum := sha256.Sum256(whole)
	o.facts = fileFacts{size: &size, sum: sum[:]}
	part := whole[min(position(v.GetOffset(), size), size):]
	o.Reader = bytes.NewReader(part[:min(length, int64(len(part)))])
	return nil
}

// position is the byte that an offset names in a file of a size.
func position(offset, size int64) int64 {
	if offset < 0 {
		return max(0, size+offset)
	}
	return offset
}
