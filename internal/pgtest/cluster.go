package pgtest

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Options of a cluster; the zero value keeps every promise of a commit.
type Options struct {
	// NoFsync trades durability for speed. Right for tests, a lie in a benchmark.
	NoFsync bool
	// Clock gives the server a clock that SetClock moves. It costs some of its speed.
	Clock bool
}

// Cluster is a temporary Postgres server on loopback, with its data under a directory of its own. It lives no longer
// than the process that started it, however that process ends.
type Cluster struct {
	// URL of the maintenance database, for a superuser.
	URL string

	keeper *exec.Cmd
	hold   io.WriteCloser // the keeper's standard input: the kernel closes it when this process dies
	log    *os.File
	clock  string // the file that holds what SetClock says, "" for this machine's clock
}

// keep makes, runs and removes a cluster; it lives as long as its standard input is open.
//
//go:embed keep.sh
var keep string

// stopped is the last line of keep.sh.
const stopped = "pgtest: postgres has stopped"

var errStopped = errors.New("postgres did not start")

// Start finds Postgres, installing it when that is possible, and starts a cluster on a free port.
func Start(ctx context.Context, opts Options) (*Cluster, error) {
	bin, err := binaries(ctx)
	if err != nil {
		return nil, err
	}
	library := ""
	if opts.Clock {
		if library, err = fakeTime(ctx); err != nil {
			return nil, err
		}
	}
	for attempt := 1; ; attempt++ {
		c, err := start(ctx, bin, library, opts)
		if errors.Is(err, errStopped) && attempt < 3 {
			continue // the free port may have been taken meanwhile
		}
		return c, err
	}
}

// Stop ends the server and removes its data. Calling it on the server that PAWL_TEST_POSTGRES names does nothing.
func (c *Cluster) Stop() error {
	if c.keeper == nil {
		return nil
	}
	err := errors.Join(c.hold.Close(), c.keeper.Wait(), c.log.Close())
	c.keeper = nil
	return err
}

// Crash stops the server at once, as the death of its machine would, and returns when it serves again over what was
// committed.
func (c *Cluster) Crash(ctx context.Context) error {
	if c.keeper == nil {
		return errors.New("only a cluster that was started here can be made to crash")
	}
	before, err := c.started(ctx)
	if err != nil {
		return fmt.Errorf("crash postgres: %w", err)
	}
	if _, err := io.WriteString(c.hold, "crash\n"); err != nil {
		return fmt.Errorf("crash postgres: %w", err)
	}
	for {
		if err := c.await(ctx); err != nil {
			return err
		}
		if now, err := c.started(ctx); err == nil && !now.Equal(before) {
			return nil
		}
	}
}

// started is when the server was.
func (c *Cluster) started(ctx context.Context) (at time.Time, err error) {
	conn, err := pgx.Connect(ctx, c.URL)
	if err != nil {
		return at, err
	}
	defer func() { _ = conn.Close(ctx) }()
	return at, conn.QueryRow(ctx, "SELECT pg_postmaster_start_time()").Scan(&at)
}

func start(ctx context.Context, bin, library string, opts Options) (*Cluster, error) {
	who, err := unprivileged()
	if err != nil {
		return nil, err
	}
	password := rand.Text()
	dir, err := directory(who, password)
	if err != nil {
		return nil, fmt.Errorf("make the cluster's directory: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, errors.Join(err, log.Close(), os.RemoveAll(dir))
	}
	fsync := "on"
	if opts.NoFsync {
		fsync = "off"
	}
	clock := filepath.Join(dir, "clock")
	if err := writeClock(clock, 0); err != nil {
		return nil, errors.Join(err, log.Close(), os.RemoveAll(dir))
	}
	// It outlives ctx: see Stop.
	cmd := exec.Command("/bin/sh", "-c", keep, "pgtest", bin, dir, strconv.Itoa(port), fsync, library)
	cmd.Dir = "/" // who may not enter ours
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: who} // a terminal's ^C is not for the keeper
	hold, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the cluster's keeper: %w", err), log.Close(), os.RemoveAll(dir))
	}
	server := url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Path: "/postgres", RawQuery: "sslmode=disable",
	}
	c := &Cluster{URL: server.String(), keeper: cmd, hold: hold, log: log}
	if library != "" {
		c.clock = clock
	}
	if err := c.await(ctx); err != nil {
		_ = c.Stop()
		return nil, err
	}
	return c, nil
}

// await returns when the server answers. The log shows an early end sooner than a deadline would.
func (c *Cluster) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, c.URL)
		if err == nil {
			return conn.Close(ctx)
		}
		said, _ := io.ReadAll(io.NewSectionReader(c.log, 0, 1<<20)) // readable although the keeper has removed it
		if bytes.Contains(said, []byte(stopped)) {
			return fmt.Errorf("%w:\n%s", errStopped, said)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for postgres: %w:\n%s", err, said)
		case <-tick.C:
		}
	}
}

// directory makes the cluster's home, private to who. Not in /tmp, which may be memory and then fsync means nothing;
// and short, because a socket's path may not exceed some 100 bytes.
func directory(who *syscall.Credential, password string) (string, error) {
	base := "/var/tmp"
	if _, err := os.Stat(base); err != nil {
		base = os.TempDir()
	}
	dir, err := os.MkdirTemp(base, "pawl-pg-")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "password")
	err = os.WriteFile(file, []byte(password), 0o600)
	if who != nil && err == nil {
		err = errors.Join(os.Chown(file, int(who.Uid), int(who.Gid)), os.Chown(dir, int(who.Uid), int(who.Gid)))
	}
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}

// unprivileged is who runs the server: Postgres refuses to run as root. Anyone else runs it as oneself (nil).
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(uidErr, gidErr)
	}
	return nil, errors.New("postgres cannot run as root, and there is no user postgres or nobody")
}

func freePort(ctx context.Context) (int, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}
