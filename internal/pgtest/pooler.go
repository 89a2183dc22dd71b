package pgtest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/internal/debian"
)

// pool runs PgBouncer for as long as its standard input is open.
//
//go:embed pool.sh
var pool string

var errNoPooler = errors.New("PgBouncer is not installed: install it (Debian: apt-get install pgbouncer; macOS: brew " +
	"install pgbouncer)")

// poolers are the poolers of this test binary, by the server that they are in front of and by their settings.
var poolers = struct {
	sync.Mutex
	running map[string]pooler
}{running: map[string]pooler{}}

// pooler is a running PgBouncer, which lives as long as hold is open and reachable.
type pooler struct {
	at   string // host and port
	hold io.WriteCloser
}

// Pooled is the address of a database, which URL or a Template gave, through PgBouncer in transaction mode: each
// transaction gets whichever of a few sessions is free. Settings are further lines of its configuration. The pooler
// ends with the test binary.
func Pooled(t testing.TB, database string, settings ...string) string {
	t.Helper()
	server, err := url.Parse(database)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // apt may have to download
	defer cancel()
	poolers.Lock()
	defer poolers.Unlock()
	key := strings.Join(append(settings, server.Host), "\n")
	p, ok := poolers.running[key]
	if !ok {
		if p, err = startPooler(ctx, server, settings); err != nil {
			t.Fatalf("pgtest: %v", err)
		}
		poolers.running[key] = p
	}
	server.Host = p.at
	return server.String()
}

// startPooler starts PgBouncer in front of a server and returns once it answers.
func startPooler(ctx context.Context, server *url.URL, settings []string) (p pooler, err error) {
	program, err := debian.Install(ctx, "pgbouncer", func() (string, bool) {
		path, err := exec.LookPath("pgbouncer")
		if err != nil {
			path = "/usr/sbin/pgbouncer" // Debian
		}
		return path, executable(path)
	}, errNoPooler)
	if err != nil {
		return p, err
	}
	port, err := freePort(ctx)
	if err != nil {
		return p, err
	}
	p.at = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	dir, who, err := poolerDirectory(server, port, settings)
	if err != nil {
		return p, fmt.Errorf("make the pooler's directory: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return p, err
	}
	cmd := exec.Command("/bin/sh", "-c", pool, "pgtest", program, dir) // outlives ctx: it ends with this process
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: who}
	if p.hold, err = cmd.StdinPipe(); err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return p, fmt.Errorf("start the pooler: %w", err)
	}
	through := *server
	through.Host = p.at
	return p, awaitPooler(ctx, through.String(), log)
}

// poolerDirectory makes a directory with the pooler's configuration, private to who runs it.
func poolerDirectory(server *url.URL, port int, settings []string) (dir string, who *syscall.Credential, err error) {
	if who, err = unprivileged(); err != nil {
		return "", nil, err
	}
	if dir, err = os.MkdirTemp("", "pawl-pool-"); err != nil {
		return "", nil, err
	}
	password, _ := server.User.Password()
	for name, content := range map[string]string{
		"users": fmt.Sprintf("%q %q\n", server.User.Username(), password),
		"ini": strings.Join(append([]string{
			"[databases]", "* = host=" + server.Hostname() + " port=" + server.Port(),
			"[pgbouncer]", "listen_addr = 127.0.0.1", "listen_port = " + strconv.Itoa(port), "unix_socket_dir =",
			"auth_type = plain", "auth_file = " + filepath.Join(dir, "users"), "pool_mode = transaction",
			// Few, so that transactions meet the sessions of others.
			"default_pool_size = 4", "max_client_conn = 1000",
		}, settings...), "\n") + "\n",
	} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
		if who != nil {
			err = errors.Join(err, os.Chown(filepath.Join(dir, name), int(who.Uid), int(who.Gid)))
		}
	}
	if who != nil {
		err = errors.Join(err, os.Chown(dir, int(who.Uid), int(who.Gid)))
	}
	return dir, who, err
}

// awaitPooler returns when the pooler lets somebody through.
func awaitPooler(ctx context.Context, url string, log *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, url)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ctx.Done():
			said, _ := io.ReadAll(io.NewSectionReader(log, 0, 1<<16))
			return fmt.Errorf("wait for the pooler: %w:\n%s", err, said)
		case <-tick.C:
		}
	}
}
