// Package bodies bounds what requests hold in memory before they are answered: the bodies of requests over HTTP, and
// the messages of calls over gRPC. Both are read as a whole.
//
//	request ─▶ Ledger.Open ─▶ Account: ReadAll or Take what the body has ─▶ the answer begins: Release
//
// Invariant: the bodies of one token's requests that are under way have at most Most bytes together. What would have
// more is refused, before it is read if it says how long it is.
package bodies

import (
	"context"
	"io"
	"sync"

	"github.com/pawl-dev/pawl/internal/errs"
)

// Most is how many bytes the bodies of one token's requests may have at a time: two of the longest.
const Most = 64 << 20

// piece is how much is taken at a time of a body that does not say how long it is.
const piece = 64 << 10

// ErrFull refuses a body while others of the same token are under way.
var ErrFull = errs.New(errs.ResourceExhausted, "BODIES_UNDER_WAY", "the bodies of this token's requests that are "+
	"under way have as many bytes as they may: wait for an answer, then try again")

// retryAfter is in how many seconds to try again. Nobody knows when an answer begins.
const retryAfter = "1"

// Ledger counts the bytes of bodies by token. Its methods may be called concurrently.
type Ledger struct {
	most int64

	mu   sync.Mutex // guards what follows, and the accounts'
	held map[string]int64
}

// NewLedger makes a Ledger.
func NewLedger() *Ledger { return &Ledger{most: Most, held: map[string]int64{}} }

// Account is what one request holds. A nil Account is not counted. Its methods may be called concurrently.
type Account struct {
	ledger   *Ledger
	token    string
	taken    int64
	released bool
}

// Open begins a request of a token.
func (l *Ledger) Open(token string) *Account { return &Account{ledger: l, token: token} }

// Take takes n bytes. Fails with ErrFull, and with context.Canceled after Release: nobody would give them back.
func (a *Account) Take(n int64) error {
	if a == nil {
		return nil
	}
	a.ledger.mu.Lock()
	defer a.ledger.mu.Unlock()
	if a.released {
		return context.Canceled
	}
	if a.ledger.held[a.token]+n > a.ledger.most {
		return ErrFull.WithFacts(map[string]string{errs.RetryAfter: retryAfter}, "%s", ErrFull.Error())
	}
	a.add(n)
	return nil
}

// Give gives back n of the bytes that were taken, before Release does.
func (a *Account) Give(n int64) {
	if a == nil {
		return
	}
	a.ledger.mu.Lock()
	defer a.ledger.mu.Unlock()
	a.add(-min(n, a.taken))
}

// Release gives back what was taken, for good. It may be called again.
func (a *Account) Release() {
	if a == nil {
		return
	}
	a.ledger.mu.Lock()
	defer a.ledger.mu.Unlock()
	a.released = true
	a.add(-a.taken)
}

// add counts n bytes more, with the ledger locked.
func (a *Account) add(n int64) {
	a.taken += n
	if a.ledger.held[a.token] += n; a.ledger.held[a.token] == 0 {
		delete(a.ledger.held, a.token)
	}
}

// ReadAll reads a body that says that it is so long; negative is that it does not say. The body must be bounded. Fails
// with ErrFull.
func (a *Account) ReadAll(body io.Reader, length int64) ([]byte, error) {
	switch {
	case a == nil:
	case length < 0:
		body = &counted{Reader: body, account: a}
	default:
		if err := a.Take(length); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(body)
}

// counted takes what is read, piece by piece, before it is read.
type counted struct {
	io.Reader
	account *Account
	left    int // of what was taken
}

// Read implements io.Reader.
func (c *counted) Read(b []byte) (int, error) {
	if c.left == 0 {
		if err := c.account.Take(piece); err != nil {
			return 0, err
		}
		c.left = piece
	}
	n, err := c.Reader.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

type accountKey struct{}

// NewContext returns a context that carries a request's account.
func NewContext(ctx context.Context, a *Account) context.Context {
	return context.WithValue(ctx, accountKey{}, a)
}

// FromContext is the request's account, nil for none.
func FromContext(ctx context.Context) *Account {
	a, _ := ctx.Value(accountKey{}).(*Account)
	return a
}
