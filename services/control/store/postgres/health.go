package postgres

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// outageAfter is how long the database has to be away to be told of.
const outageAfter = time.Second

// health tells the log of outages: one line when the database has been away for a second, one when it answers again.
type health struct {
	log      *slog.Logger
	troubled atomic.Bool // since is set

	mu    sync.Mutex // guards what follows
	since time.Time  // of the first failure that no answer has followed
	told  bool
}

// away reports whether err means that the database cannot be reached, or does not serve.
func away(err error) bool {
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
		return strings.HasPrefix(pg.Code, "57P") || strings.HasPrefix(pg.Code, "08") || pg.Code == "53300" ||
			pg.Code == "25006"
	}
	return transient(err)
}

// failed notes that an operation found the database away. text is what it said, without the password.
func (h *health) failed(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if h.since.IsZero() {
		h.since = now
		h.troubled.Store(true)
	}
	if h.told || now.Sub(h.since) < outageAfter {
		return
	}
	h.told = true
	h.log.Error("the database cannot be reached, trying again", "error", text, "since", h.since)
}

// answered notes that the database answered.
func (h *health) answered() {
	if !h.troubled.Load() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.told {
		h.log.Info("the database answers again", "duration", time.Since(h.since))
	}
	h.since, h.told = time.Time{}, false
	h.troubled.Store(false)
}

// outage reports whether the log says that the database is away.
func (h *health) outage() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.told
}
