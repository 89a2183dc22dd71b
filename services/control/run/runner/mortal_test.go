package runner_test

import (
	"context"
	"errors"
	"sync"

	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/store/sqlite"
)

// mortal is a database that can have its replica struck at a commit of a lane.
type mortal struct {
	*sqlite.Store
	mu      sync.Mutex // guards what follows
	commits int        // so far
	strikes map[int]strike
	refused int // the commit that the database refuses, 0 for none
}

var errRefused = errors.New("the rows contradict the commit")

// strike is what happens at a commit.
type strike struct {
	after bool // it is written, and nobody hears of that
	do    func()
}

// at says what happens at the n-th commit.
func (m *mortal) at(n int, s strike) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.strikes == nil {
		m.strikes = map[int]strike{}
	}
	m.strikes[n] = s
}

// count is how many commits there were.
func (m *mortal) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.commits
}

// Commit implements lane.Store.
func (m *mortal) Commit(ctx context.Context, c lane.Commit) (out lane.Committed, err error) {
	if ctx.Err() != nil {
		return out, ctx.Err()
	}
	m.mu.Lock()
	m.commits++
	s, struck := m.strikes[m.commits]
	refused := m.commits == m.refused
	m.mu.Unlock()
	if refused {
		return out, errRefused
	}
	if struck && !s.after {
		s.do()
	}
	if ctx.Err() == nil {
		out, err = m.Store.Commit(ctx, c)
	}
	if struck && s.after {
		s.do()
	}
	if ctx.Err() != nil {
		return lane.Committed{}, ctx.Err()
	}
	return out, err
}
