package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/pawl-dev/pawl/internal/contain"
)

// cached is a token as the store has told it.
type cached struct {
	token Token
	asked time.Time // when the store was
}

// fresh reports whether the answer is to be believed yet.
func (c cached) fresh() bool { return !c.asked.IsZero() && time.Since(c.asked) <= fresh }

// expired reports whether the token has come to its end: what was left of it is counted on the process's own clock.
func (c cached) expired() bool {
	return !c.token.ExpiresAt.IsZero() && time.Since(c.asked) >= c.token.Left
}

func (s *Service) lookup(ctx context.Context, hash [sha256.Size]byte) (cached, error) {
	s.mu.Lock()
	revoked := s.revoked
	s.mu.Unlock()
	found, err := s.find(ctx, hash, revoked)
	missing := errors.Is(err, ErrTokenNotFound)
	if err != nil && !missing {
		return cached{}, fmt.Errorf("looking up a token: %w", err)
	}
	// An index may compare as it likes; this comparison decides. It is made for unknown tokens too, so that they cost
	// the same.
	if missing {
		found.token.Hash = make([]byte, sha256.Size)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if subtle.ConstantTimeCompare(found.token.Hash, hash[:]) != 1 {
		// A client that repeats one wrong token costs a query now and then, and locks nobody out who shares its
		// address.
		s.failures.count(sourceOf(ctx))
		delete(s.cache, hash) // it may have been a token's once
		if len(s.wrong) >= maxCached {
			clear(s.wrong)
		}
		s.wrong[hash] = time.Now().Add(fresh)
		return cached{}, errUnknownToken
	}
	return found, nil
}

// find asks the store, once for all who ask at the same time: watches that began together look again together. Who asks
// after a revocation does not share the answer to those who asked before.
func (s *Service) find(ctx context.Context, hash [sha256.Size]byte, revoked int) (cached, error) {
	key := string(hash[:]) + strconv.Itoa(revoked)
	answer := s.lookups.DoChan(key, func() (found any, err error) {
		// Whoever asked first may leave while others wait.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), findLimit)
		defer cancel()
		err = contain.Do(func() (err error) { found, err = s.ask(ctx, hash, revoked); return err })
		return found, err
	})
	select {
	case <-ctx.Done():
		return cached{}, ctx.Err()
	case a := <-answer:
		found, _ := a.Val.(cached)
		return found, a.Err
	}
}

// ask asks the store, unless somebody has since the caller looked, and remembers the answer.
func (s *Service) ask(ctx context.Context, hash [sha256.Size]byte, revoked int) (cached, error) {
	s.mu.Lock()
	hit := s.cache[hash]
	s.mu.Unlock()
	if hit.fresh() {
		return hit, nil
	}
	found := cached{asked: time.Now()} // what is left of the token is counted from before the store says it
	var err error
	found.token, err = s.store.FindToken(ctx, hash[:])
	if err != nil || subtle.ConstantTimeCompare(found.token.Hash, hash[:]) != 1 {
		return found, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if revoked != s.revoked {
		return found, nil
	}
	if len(s.cache) >= maxCached {
		clear(s.cache)
	}
	s.cache[hash] = found
	return found, nil
}
