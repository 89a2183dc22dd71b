// Package link is the executor's end of Connect: it dials control and keeps one connection up while the daemon runs.
//
//	dial ─▶ Hello ─▶ Welcome ─▶ frames both ways ─▶ any error, or silence ─▶ wait ─▶ dial
//	            └─▶ refused for a reason that no retry mends (token, id, labels, version): Run ends
//
// A connection is one failure domain: any failure ends all of it, and the next attempt uses a new ClientConn. A
// connection has three goroutines, one that sends, one that receives, and one that watches for silence. Run waits for
// all three.
//
// Invariants:
//   - The end of a connection never ends a call of a lane.
//   - The waits between attempts grow and are jittered. They begin anew after a connection that lasted a second.
//   - The log has one line for each change and address, not one for each attempt.
package link

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/mono"
	"github.com/pawl-dev/pawl/services/executor/work"
)

// Protocol is the version of Connect that this package speaks.
const Protocol = 1

const (
	firstWait = 100 * time.Millisecond
	// longWait is short, too: whoever restarts control waits for its executors.
	longWait = 3 * time.Second
	// stable is short: a control plane that is killed every few seconds is to be found again in the seconds between.
	stable = time.Second
	// greet bounds the time from the dial to the Welcome.
	greet = 20 * time.Second
	// defaultTTL is for a control plane that names none.
	defaultTTL = 15 * time.Second
	// partTimeout is how long the last frames may take at an orderly end.
	partTimeout = time.Second
)

// Config of Run. All but Addresses, Explain, Clock and Connected is required.
type Config struct {
	// Dial makes a connection for one attempt; Run closes it. With several addresses of control each attempt dials the
	// next one.
	Dial func(ctx context.Context) (*grpc.ClientConn, error)
	// Addresses is how many addresses Dial has: the waits between attempts grow once all of them have failed. 0 is one.
	Addresses int
	// Explain says what to do about a connection that could not be made, "" for nothing. It may take seconds. Nil says
	// nothing.
	Explain func(ctx context.Context, addr string, err error) string
	Work    *work.Service
	// Hello makes the first frame, without protocol, inflight, draining and last_connection_epoch. An error is one of
	// this attempt.
	Hello func() (*pawlv1.Hello, error)
	Log   *slog.Logger
	// Clock is for silences and for how long connections last; nil is the system's.
	Clock mono.Clock
	// Connected is called after every Welcome.
	Connected func()
}

// Run keeps connected until ctx ends, and then returns nil once what is ready to be sent was sent. An error is one that
// no retry mends.
func Run(ctx context.Context, cfg Config) error {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval, wait.Multiplier = firstWait, longWait, 2
	if cfg.Clock == nil {
		cfg.Clock = mono.New()
	}
	l := &linker{cfg: cfg, warned: map[string]bool{}}
	for failed := 0; ; {
		began := cfg.Clock()
		err := contain.Do(func() error { return l.connect(ctx) })
		if ctx.Err() != nil {
			return nil
		}
		if final := refusal(err); final != nil {
			return final
		}
		l.lost(ctx, err)
		if l.welcomed && cfg.Clock.Since(began) >= stable {
			wait.Reset()
			failed = 0
		}
		l.welcomed = false
		failed++
		pause := rand.N(firstWait) // for the next address
		if failed%max(cfg.Addresses, 1) == 0 {
			pause = wait.NextBackOff()
		}
		if await.Sleep(ctx, pause) != nil {
			return nil
		}
	}
}

// linker is what Run knows of the present attempt.
type linker struct {
	cfg      Config
	welcomed bool
	epoch    int64 // of the last connection
	addr     string
	warned   map[string]bool // by address, since the last connection
}

func (l *linker) met(w *pawlv1.Welcome) {
	l.welcomed, l.epoch = true, w.GetConnectionEpoch()
	clear(l.warned)
	l.cfg.Log.Info("connected to control", "addr", l.addr,
		"replica_id", w.GetReplicaId(), "connection_epoch", w.GetConnectionEpoch())
	if l.cfg.Connected != nil {
		l.cfg.Connected()
	}
}

func (l *linker) lost(ctx context.Context, err error) {
	switch {
	case notNow(err) && l.welcomed:
		l.cfg.Log.Info("control stops serving this executor, connecting again", "err", plain(err))
		return
	case notNow(err):
		l.cfg.Log.Debug("control serves no executors now, retrying", "err", plain(err))
		return
	case l.welcomed:
		l.cfg.Log.Warn("the connection to control was lost, running calls go on", "addr", l.addr, "err", plain(err))
	case !l.warned[l.addr]:
		about := []any{"addr", l.addr, "err", plain(err)}
		if l.cfg.Explain != nil {
			if cure := l.cfg.Explain(ctx, l.addr, err); cure != "" {
				about = append(about, "cure", cure)
			}
		}
		l.cfg.Log.Warn("control cannot be reached, retrying", about...)
		l.warned[l.addr] = true
	default:
		l.cfg.Log.Debug("control still cannot be reached", "addr", l.addr, "err", plain(err))
	}
}

// errSilent ends a connection on which nothing comes, or nothing leaves.
var errSilent = errors.New("control was silent for too long")
