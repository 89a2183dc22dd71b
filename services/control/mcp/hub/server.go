package hub

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/time/rate"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/mcpclient"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/mcp"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

// server is a server for one tenant. It has a field for each thing that is known of it.
type server struct {
	hub   *Hub
	def   mcp.Definition
	users int       // guarded by hub.mu, as is
	used  time.Time // when nobody used it any more

	relist *rate.Limiter // of lists that have changed
	lock   chan struct{} // held by who connects or lists; guards
	pause  backoff.ExponentialBackOff
	down   error // why it could not be reached
	until  time.Time

	known      sync.Mutex // guards what follows, which the holder of lock writes
	tokens     *tokens    // nil for none
	secrets    []string   // that the server is told, besides tokens
	conn       *mcpclient.Conn
	closeIdle  func()
	list       mcp.List
	listedAt   time.Time
	generation int64 // of the list
	digest     string
}

func (s *server) acquire(ctx context.Context) error {
	select {
	case s.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *server) release() { <-s.lock }

// disconnect ends the session. The lock is held.
func (s *server) disconnect() {
	s.known.Lock()
	conn, closeIdle := s.conn, s.closeIdle
	s.conn, s.closeIdle = nil, nil
	s.known.Unlock()
	if conn == nil {
		return
	}
	s.hub.closing.Go(func() { // it waits for requests under way, which end in time
		if err := conn.Close(); err != nil {
			s.hub.deps.Log.Debug("a session with a server of tools did not end well", "server", s.def.Name,
				"error", err)
		}
		closeIdle()
	})
}

// connected is the session, which is made if there is none. The lock is held.
func (s *server) connected(ctx context.Context) (*mcpclient.Conn, error) {
	if s.conn != nil {
		select {
		case <-s.conn.Closed():
			s.disconnect()
		default:
			if !s.conn.Worn() {
				return s.conn, nil
			}
			s.disconnect()
		}
	}
	if s.down != nil && time.Now().Before(s.until) {
		return nil, s.stillDown()
	}
	d, err := s.def.Expand(s.hub.deps.Lookup)
	if err != nil {
		return nil, err
	}
	s.known.Lock()
	s.secrets = agent.ServerSecrets(s.def, s.hub.deps.Lookup)
	if s.tokens == nil {
		s.tokens = newTokens(s.hub.life, s.hub.deps.Client, d.HTTP)
	}
	s.known.Unlock()
	limit, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, closeIdle, err := s.hub.connect(limit, d, s.tokens)
	switch {
	case err == nil:
		s.down = nil
		s.known.Lock()
		s.conn, s.closeIdle, s.listedAt = conn, closeIdle, time.Time{}
		s.known.Unlock()
		return conn, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, s.fails(err)
}

// stillDown is why the server was of no use the last time, and when it is asked again: it may be there by now.
func (s *server) stillDown() error {
	return ErrDown.With("%v (it is asked again from %s on)", s.down, s.until.UTC().Format("15:04:05 UTC"))
}

// fails notes that the server is of no use for a while. The lock is held.
func (s *server) fails(err error) error {
	s.down, s.until = s.explain(err), time.Now().Add(s.pause.NextBackOff())
	s.hub.deps.Log.Warn("a server of tools cannot be used", "server", s.def.Name, "error", s.down)
	return s.down
}

// cleaner takes out of what the server says what it was told in confidence, and may repeat.
func (s *server) cleaner() tool.Cleaner {
	s.known.Lock()
	defer s.known.Unlock()
	return tool.NewCleaner(slices.Concat(s.secrets, s.tokens.secrets()))
}

// clean is an error without secrets.
func (s *server) clean(err error) error {
	var e *mcpclient.Error
	if !errors.As(err, &e) {
		return err
	}
	clean := *e
	clean.Message = s.cleaner().Beginning(e.Message)
	return &clean
}

// explain is an error for models and people. It does not repeat what a server says at length.
func (s *server) explain(err error) error {
	if e, ok := errs.Public(err); ok {
		return ErrDown.With("MCP server %s cannot be used: %v", s.def.Name, e)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return ErrDown.With("MCP server %s did not answer within %s", s.def.Name, connectTimeout)
	}
	said := s.cleaner().Beginning(strings.Join(strings.Fields(err.Error()), " "))
	return ErrDown.With("MCP server %s cannot be used: %s", s.def.Name, clip.Shorten(clip.Sanitize(said), 300))
}

// listed is the list of tools, asked for anew if it may have changed. The lock is held.
func (s *server) listed(ctx context.Context, conn *mcpclient.Conn) (mcp.List, error) {
	if s.down != nil && time.Now().Before(s.until) {
		return mcp.List{}, s.stillDown()
	}
	now := conn.Generation()
	fresh := !s.listedAt.IsZero() && (conn.Announces() || time.Since(s.listedAt) < listAge)
	if fresh && (now == s.generation || !s.relist.Allow()) {
		return s.list, nil
	}
	limit, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	r, err := conn.Do(limit, mcpclient.ListTools, nil, nil)
	var list mcp.List
	var digest [sha256.Size]byte
	if err == nil {
		list, digest, err = mcp.ReadList(s.cleaner().JSON(r.JSON))
	}
	switch {
	case ctx.Err() != nil:
		return mcp.List{}, ctx.Err()
	case err != nil:
		return mcp.List{}, s.fails(err)
	}
	s.down = nil
	s.pause.Reset()
	s.known.Lock()
	s.list, s.listedAt, s.generation, s.digest = list, time.Now(), now, hex.EncodeToString(digest[:8])
	s.known.Unlock()
	return list, nil
}

// try makes a request once.
func (s *server) try(ctx context.Context, r Request, progress func(mcpclient.Progress)) (mcpclient.Result, error) {
	if err := s.acquire(ctx); err != nil {
		return mcpclient.Result{}, &mcpclient.Error{Kind: mcpclient.NotSent, Message: "the server is not connected yet"}
	}
	conn, err := s.connected(ctx)
	s.release()
	if err != nil {
		return mcpclient.Result{}, err
	}
	res, err := conn.Do(ctx, r.Method, r.Params, func(p mcpclient.Progress) {
		if progress != nil {
			p.Message = s.cleaner().Text(p.Message)
			progress(p)
		}
	})
	if err != nil {
		return res, s.clean(err)
	}
	clean := s.cleaner()
	res.JSON = clean.JSON(res.JSON)
	for i, question := range res.Declined {
		res.Declined[i] = clean.Beginning(question)
	}
	return res, nil
}
