// Package executor is the daemon that runs tool calls for control: it dials control, runs the calls that control sends
// in a sandbox, and keeps their results until control has recorded them.
//
//	link ── frames ──▶ work ── verbs ──▶ sandbox (local: this host; a keeper owns the commands)
//	                     └── facts ──▶ journal
//
// Run starts what the others depend on first and ends it last: the journal, the sandbox, the work, the link. The
// program cmd/executor and the executor that is built into control are the same Run.
//
// The daemon may die at any time. Commands run on in the keeper, the journal knows which calls were begun, and the next
// Run on the same data directory finds both. No wall clock decides what becomes of a call: times that outlive the
// process are ages of the journal, and everything else is measured on the monotonic clock.
package executor

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/disk"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/mono"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/executor/journal"
	"github.com/pawl-dev/pawl/services/executor/keeper"
	"github.com/pawl-dev/pawl/services/executor/link"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
	"github.com/pawl-dev/pawl/services/executor/sandbox/local"
	"github.com/pawl-dev/pawl/services/executor/work"
)

// Config of Run. ID, DataDir and one of Dial and Targets are required; the zero value of everything else works. It has
// a field for each setting of the program, and so as many as there are of those.
//
// A program that leaves Sandbox unset must begin its main with `if keeper.Invoked() { os.Exit(keeper.Main()) }`.
type Config struct {
	// ID is the executor's name, which the token must name too.
	ID string
	// BootID is new for every start; "" makes one.
	BootID string
	Labels map[string]string
	// Slots is how many calls run at once; 0 is 64.
	Slots int
	// Root is the working directory; "" is the process's.
	Root string
	// DataDir holds the journal and the keeper. One executor at a time uses it.
	DataDir string
	// Env is set for every command, over the allowlist; nil removes a name.
	Env     map[string]*string
	Version string

	// Dial makes the connection of one attempt. It takes the place of Targets, TLS and Token.
	Dial func(ctx context.Context) (*grpc.ClientConn, error)
	// Targets are addresses of one control plane, host:port or unix:PATH, tried in turn in an order of chance, so that
	// not all executors are at one replica. Without TLS each must be on this host.
	Targets []string
	TLS     *tls.Config
	Token   func(ctx context.Context) (string, error)

	// Sandbox runs the calls; nil is this host. The caller closes the one that it gives, in which Grep and Glob fail.
	Sandbox sandbox.Sandbox
	// Journal is for tests.
	Journal journal.Config
	// Clock measures all that is compared or kept over restarts; nil is the system's. Wall clocks are only for people.
	Clock mono.Clock

	Logger *slog.Logger
	// DrainGrace is how long calls that do not survive this process may take at the end; 0 is 2 s.
	DrainGrace time.Duration
	// Connected is called after every welcome by control.
	Connected func()
}

func (c *Config) check() error {
	if err := ident.CheckExecutor(c.ID); err != nil {
		return err
	}
	if c.DataDir == "" {
		return errors.New("an executor needs a data directory")
	}
	if c.Slots < 0 {
		return fmt.Errorf("an executor cannot have %d slots", c.Slots)
	}
	if c.Dial != nil {
		return nil
	}
	if len(c.Targets) == 0 {
		return errors.New("an executor needs the address of control")
	}
	for _, target := range c.Targets {
		if c.TLS == nil && !rpc.Loopback(target) && !strings.HasPrefix(target, "unix:") {
			return fmt.Errorf("%s is not on this host and would get the token in the clear: use TLS", target)
		}
	}
	return nil
}

// dialer dials the targets in turn, in an order of chance.
func (c *Config) dialer() func(context.Context) (*grpc.ClientConn, error) {
	opts := append(rpc.DialOptions(), rpc.Security(c.TLS))
	if c.Token != nil {
		opts = append(opts, grpc.WithPerRPCCredentials(rpc.Token{Secret: c.Token, Plaintext: c.TLS == nil}))
	}
	order, next := rand.Perm(len(c.Targets)), 0
	return func(context.Context) (*grpc.ClientConn, error) {
		target := c.Targets[order[next]]
		next = (next + 1) % len(order)
		return grpc.NewClient(target, opts...)
	}
}

// Run executes calls until ctx ends, then drains: it takes nothing new, waits a moment for what would not survive, and
// leaves running commands to the keeper and the next Run. An error says why it could not start, why control refuses it
// for good, or why the journal can no longer be written: whoever supervises it starts it anew, and that tells what is
// on the disk.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.check(); err != nil {
		return err
	}
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	if cfg.Dial == nil {
		cfg.Dial = cfg.dialer()
	}
	if cfg.Clock == nil {
		cfg.Clock = mono.New()
	}
	cfg.Journal.Clock = cfg.Clock
	cfg.BootID = cmp.Or(cfg.BootID, ident.New())
	cfg.DrainGrace = cmp.Or(cfg.DrainGrace, 2*time.Second)
	opened, err := disk.PrivateDir(cfg.DataDir)
	if err != nil {
		return fmt.Errorf("making the data directory: %w", err)
	}
	if opened {
		cfg.Logger.Warn("others could enter the data directory, now they cannot", "data", cfg.DataDir)
	}
	j, err := journal.Open(cfg.DataDir, cfg.Journal)
	if err != nil {
		return err
	}
	if cfg.Sandbox == nil {
		if err := cfg.capSlots(); err != nil {
			return errors.Join(err, j.Close())
		}
	}
	err = withSandbox(&cfg, func(wc work.Config) error { return serve(ctx, &cfg, j, wc) })
	if cerr := j.Close(); !errors.Is(err, journal.ErrFailed) { // whose Close says the same
		err = errors.Join(err, cerr)
	}
	return err
}

// capSlots makes sure that as many commands can run at once as there are slots.
func (c *Config) capSlots() error {
	limit, err := keeper.OpenFiles()
	if err != nil {
		return fmt.Errorf("asking for the limit of open files: %w", err)
	}
	c.Slots = cmp.Or(c.Slots, work.DefaultSlots)
	if most := keeper.Capacity(limit); c.Slots > most {
		c.Logger.Warn("fewer slots than asked for: this process may open too few files (ulimit -n)",
			"slots", most, "asked_for", c.Slots, "open_files", limit)
		c.Slots = most
	}
	return nil
}

// withSandbox calls f while there is a sandbox, with where that searches and who witnesses the starts of its commands.
func withSandbox(cfg *Config, f func(work.Config) error) error {
	if cfg.Sandbox != nil {
		return f(work.Config{})
	}
	dir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return err
	}
	k, err := keeper.Open(dir, keeper.Options{Version: cfg.Version, Log: cfg.Logger})
	if err != nil {
		return err
	}
	sb, err := local.New(local.Options{Root: cfg.Root, Data: dir, Keeper: k, Env: cfg.Env})
	if err != nil {
		return errors.Join(err, k.Close())
	}
	cfg.Sandbox = sb
	return errors.Join(f(work.Config{SearchRoot: sb.Root(), Witness: k.Witness}), k.Close())
}

// serve does what control asks for. wc is what work has to know of the sandbox.
func serve(ctx context.Context, cfg *Config, j *journal.Journal, wc work.Config) error {
	wc.Sandbox, wc.Journal, wc.Slots, wc.Log = cfg.Sandbox, j, cfg.Slots, cfg.Logger
	w := work.New(wc)
	defer w.Close()
	if err := w.Recover(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("taking up earlier calls: %w", err)
	}
	var explain func(context.Context, string, error) string
	if len(cfg.Targets) > 0 {
		explain = func(ctx context.Context, addr string, err error) string {
			return rpc.Diagnose(ctx, addr, cfg.TLS, err)
		}
	}
	linked, part := context.WithCancel(context.WithoutCancel(ctx))
	defer part()
	done := make(chan error, 1)
	go func() {
		done <- link.Run(linked, link.Config{
			Dial: cfg.Dial, Addresses: len(cfg.Targets), Explain: explain,
			Work: w, Log: cfg.Logger, Clock: cfg.Clock, Connected: cfg.Connected,
			Hello: func() (*pawlv1.Hello, error) { return cfg.hello(j, w) },
		})
	}()
	select {
	case err := <-done:
		return err
	case <-j.Failed():
		part()
		return errors.Join(j.Err(), <-done)
	case <-ctx.Done():
	}
	cfg.Logger.Info("draining")
	w.Drain()
	grace, cancel := context.WithTimeout(linked, cfg.DrainGrace)
	defer cancel()
	w.Settle(grace)
	w.Flush(grace)
	part()
	return <-done
}

func (c *Config) hello(j *journal.Journal, w *work.Service) (*pawlv1.Hello, error) {
	incarnations, err := j.Incarnations()
	if err != nil {
		return nil, err
	}
	h := &pawlv1.Hello{
		ExecutorId: c.ID, BootId: c.BootID, JournalId: j.ID(),
		Labels: c.Labels, Slots: uint32(w.Slots()), Version: c.Version, Root: c.Sandbox.Root(), Isolation: "none",
	}
	for _, i := range incarnations {
		h.Incarnations = append(h.Incarnations, &pawlv1.Incarnation{Id: i.ID, Begun: i.Begun})
	}
	return h, nil
}
