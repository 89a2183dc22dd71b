package postgres

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/internal/await"
)

const (
	// pingEvery finds a connection that died without a word.
	pingEvery = 5 * time.Second
	// hintTimeout bounds what is asked for the sake of hints.
	hintTimeout = 5 * time.Second
)

// Listen implements store.Notifier. Where there is no session to listen in, nothing is heard: who waits for a hint
// polls too.
func (s *Store) Listen(ctx context.Context, f func(sessionIDs []string)) error {
	if s.direct == nil {
		s.opts.Log.Info("this replica polls for the work of others: a pooler shares sessions, see --database-direct")
		<-ctx.Done()
		return nil
	}
	pause := exponential()
	hearing := hearing{store: s}
	for connected := false; ; {
		err := s.listen(ctx, func() {
			pause.Reset()
			hearing.again()
			if connected {
				f(nil) // what was sent meanwhile is lost
			}
			connected = true
		}, f)
		if ctx.Err() != nil {
			return nil
		}
		hearing.lost(err)
		if await.Sleep(ctx, pause.NextBackOff()) != nil {
			return nil
		}
	}
}

// deafAfter is how long no hints may be heard before the log says so.
const deafAfter = 5 * time.Second

// hearing tells the log when hints cannot be heard although the database answers: work of other replicas is then
// noticed late.
type hearing struct {
	store *Store
	deaf  time.Time // since when nothing is heard, zero while it is
	told  bool
}

func (h *hearing) lost(err error) {
	if h.deaf.IsZero() {
		h.deaf = time.Now()
	}
	log, text := h.store.opts.Log, oneLine(err, h.store.direct.Password)
	if h.told || time.Since(h.deaf) < deafAfter || h.store.health.outage() {
		log.Debug("listening for hints was interrupted", "error", text)
		return
	}
	h.told = true
	log.Warn("hints of other replicas cannot be heard, looking for work every second instead", "error", text, "since",
		h.deaf)
}

func (h *hearing) again() {
	if h.told {
		h.store.opts.Log.Info("hints of other replicas are heard again", "duration", time.Since(h.deaf))
	}
	h.deaf, h.told = time.Time{}, false
}

// bounded calls f, which asks the server something small.
func bounded(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, hintTimeout)
	defer cancel()
	return f(ctx)
}

// listen hears hints on one connection until it breaks.
func (s *Store) listen(ctx context.Context, connected func(), f func([]string)) error {
	conn, err := pgx.ConnectConfig(ctx, s.direct)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	if err := bounded(ctx, func(ctx context.Context) error {
		_, err := conn.Exec(ctx, `LISTEN `+channel)
		return err
	}); err != nil {
		return err
	}
	connected()
	for {
		if err := s.hear(ctx, conn, f); err != nil {
			return err
		}
	}
}

// hear waits for one hint, or pings when none comes.
func (s *Store) hear(ctx context.Context, conn *pgx.Conn, f func([]string)) error {
	quiet, cancel := context.WithTimeout(ctx, pingEvery)
	defer cancel()
	note, err := conn.WaitForNotification(quiet)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return bounded(ctx, conn.Ping)
	}
	if err != nil {
		return err
	}
	if ids := strings.Fields(note.Payload); len(ids) > 1 && ids[0] != s.notes.sender {
		f(ids[1:])
	}
	return nil
}
