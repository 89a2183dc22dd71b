package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/disk"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/session"
)

// OperatorName is the name of the token that the file of a data directory holds.
const OperatorName = "operator of the data directory"

const (
	// operatorLife is how long the token of a data directory lives that no control plane runs on.
	operatorLife = 30 * 24 * time.Hour
	// extendAfter is how much of it may pass before a control plane extends it.
	extendAfter = 24 * time.Hour
	// keepEvery is how often a control plane looks. Clocks jump: once the clock of the database is set, a token may
	// have ended that lived on for weeks a moment before.
	keepEvery = 5 * time.Minute
)

// KeepOperator extends the life of the token in the file at path from time to time, until ctx ends. What fails is
// logged, and tried again the next time.
func (s *Service) KeepOperator(ctx context.Context, path string) error {
	for range await.Ticks(ctx, keepEvery) {
		if err := s.EnsureOperator(ctx, path); err != nil && ctx.Err() == nil {
			slog.WarnContext(ctx, "extending the life of the operator's token failed, trying again later", "path",
				path, "error", err)
		}
	}
	return nil
}

// EnsureOperator makes sure that the file at path, readable by its owner only, holds an operator's token that this
// database knows. A token of another database is made known to this one. One that was revoked is replaced, as is one
// with an end that somebody chose; the life of one that was made here is extended.
func (s *Service) EnsureOperator(ctx context.Context, path string) error {
	secret, err := readSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s.newOperator(ctx, path)
	}
	if err != nil {
		return err
	}
	hash := sha256.Sum256([]byte(secret))
	t, err := s.store.FindToken(ctx, hash[:])
	switch {
	case errors.Is(err, ErrTokenNotFound):
		return s.storeOperator(ctx, secret)
	case err != nil:
		return fmt.Errorf("looking up the operator's token: %w", err)
	case t.Name == OperatorName && t.Kind == Operator && t.RevokedAt.IsZero():
		if t.Left > operatorLife-extendAfter && t.Left <= operatorLife {
			return nil
		}
		if err := s.store.ExtendToken(ctx, t.ID, operatorLife); err != nil {
			return fmt.Errorf("extending the life of the operator's token: %w", err)
		}
	case !t.RevokedAt.IsZero(), !t.ExpiresAt.IsZero() && t.Left <= 0:
		slog.WarnContext(ctx, "operator token has ended, making a new one", "path", path)
		return s.newOperator(ctx, path)
	case t.Kind != Operator:
		return fmt.Errorf("%s holds the token of another kind (%s): remove it to have a new operator token made", path,
			t.Kind)
	}
	return nil
}

// newOperator writes the file first: whatever happens then, the next start makes its token known.
func (s *Service) newOperator(ctx context.Context, path string) error {
	secret := newSecret(letters[Operator])
	if err := disk.Replace(path, []byte(secret+"\n")); err != nil {
		return fmt.Errorf("writing the operator's token: %w", err)
	}
	return s.storeOperator(ctx, secret)
}

func (s *Service) storeOperator(ctx context.Context, secret string) error {
	hash := sha256.Sum256([]byte(secret))
	_, err := s.store.CreateToken(ctx, Token{
		ID: ident.New(), Tenant: session.DefaultTenant, Name: OperatorName, Kind: Operator, Hash: hash[:],
	}, operatorLife)
	if err != nil {
		return fmt.Errorf("storing the operator's token: %w", err)
	}
	return nil
}

func readSecret(path string) (string, error) {
	// What a link leads to is somebody else's: neither its content nor its mode is ours.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return "", fmt.Errorf("%s is a link: put the token itself there, or remove it to have a new one made", path)
	}
	if err != nil {
		return "", fmt.Errorf("reading the operator's token: %w", err)
	}
	defer f.Close() //nolint:errcheck // of a file that was read
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is no file: remove it to have a new operator token made", path)
	}
	if err != nil {
		return "", fmt.Errorf("reading the operator's token: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(secretLen)+2))
	if err != nil {
		return "", fmt.Errorf("reading the operator's token: %w", err)
	}
	secret := strings.TrimSpace(string(b))
	// A file that somebody made up must not become a password.
	if letter, err := formOf(secret); err != nil || letter != letters[Operator] {
		return "", fmt.Errorf("%s does not hold an operator token: remove it to have a new one made", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		if err := f.Chmod(0o600); err != nil {
			return "", fmt.Errorf("%s can be read by others and cannot be tightened: %w", path, err)
		}
		slog.Warn("operator token could be read by others, tightened", "path", path, "mode", mode.String())
	}
	return secret, nil
}
