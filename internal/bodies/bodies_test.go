package bodies

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/pawl-dev/pawl/internal/errs"
)

// One token's bodies have a bound together, whether they say how long they are or not, and give back what they took.
func TestBound(t *testing.T) {
	const most = 8 * piece
	l := NewLedger()
	l.most = most
	half := bytes.Repeat([]byte("x"), most/2)
	read := func(token string, length int64) (*Account, error) {
		a := l.Open(token)
		got, err := a.ReadAll(bytes.NewReader(half), length)
		if err == nil && !bytes.Equal(got, half) {
			t.Errorf("%d bytes instead of %d", len(got), len(half))
		}
		return a, err
	}
	first, err := read("a", most/2)
	if err != nil {
		t.Fatal(err)
	}
	unread := &failing{}
	if _, err := l.Open("a").ReadAll(unread, most/2+1); !errors.Is(err, ErrFull) || unread.read {
		t.Errorf("one byte too many: %v, read: %v", err, unread.read)
	}
	second, err := read("a", -1)
	if !errors.Is(err, ErrFull) { // its last piece finds out that nothing comes
		t.Errorf("as many as there may be, and a piece: %v", err)
	}
	second.Release()
	if _, err := read("b", most/2); err != nil {
		t.Errorf("another token: %v", err)
	}
	first.Release()
	first.Release()
	second, err = read("a", -1)
	if err != nil {
		t.Error(err)
	}
	second.Release()
	if got := l.held["a"]; got != 0 {
		t.Errorf("%d bytes are left", got)
	}
	var none *Account
	if got, err := none.ReadAll(bytes.NewReader(half), -1); err != nil || len(got) != len(half) {
		t.Error(len(got), err)
	}
	none.Release()
}

// failing must not be read.
type failing struct{ read bool }

// Read implements io.Reader.
func (f *failing) Read([]byte) (int, error) {
	f.read = true
	return 0, io.EOF
}

// What was taken is given back in parts, once each, and nothing is taken for a request that has ended.
func TestTakeAndGive(t *testing.T) {
	l := NewLedger()
	a := l.Open("a")
	if err := errors.Join(a.Take(Most-1), a.Take(1)); err != nil {
		t.Fatal(err)
	}
	err := a.Take(1)
	if e, ok := errs.Public(err); !ok || e.Reason() != "BODIES_UNDER_WAY" || e.Facts()[errs.RetryAfter] == "" {
		t.Errorf("one byte too many: %v", err)
	}
	a.Give(Most - 1)
	if err := l.Open("a").Take(Most - 1); err != nil {
		t.Error(err)
	}
	a.Give(2) // one is left
	a.Release()
	if got := l.held["a"]; got != Most-1 {
		t.Errorf("%d bytes are held", got)
	}
	if err := a.Take(0); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	var none *Account
	none.Give(1)
	if err := none.Take(2 * Most); err != nil {
		t.Error(err)
	}
}
