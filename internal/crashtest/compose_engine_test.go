package crashtest_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/internal/pgtest"
	"github.com/pawl-dev/pawl/internal/proctest"
)

// engine runs the services of a composition as plain processes: the programs, flags and variables are those of the
// file. Places in containers become directories, and ports become free ports of this host.
type engine struct {
	t *testing.T
	composition
	programs, dir string
	ports         map[string]string // HOST:PORT of a container → that of this host
	running       map[string]*proctest.Process
	logs          map[string]*proctest.Log
	cluster       *pgtest.Cluster
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	programs, err := built()
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{
		t: t, composition: readComposition(t), programs: programs, dir: t.TempDir(), ports: map[string]string{},
		running: map[string]*proctest.Process{}, logs: map[string]*proctest.Log{},
	}
	t.Cleanup(func() {
		for name, p := range e.running {
			if err := p.End(syscall.SIGKILL, patience); err != nil {
				t.Error(err)
			}
			if t.Failed() {
				t.Logf("%s said:\n%s", name, e.logs[name])
			}
		}
		if err := proctest.EndKeeper(e.volume("executor"), patience); err != nil {
			t.Error(err)
		}
		if e.cluster != nil {
			if err := e.cluster.Stop(); err != nil {
				t.Error(err)
			}
		}
	})
	return e
}

// up starts every service once what it depends on is as it has to be.
func (e *engine) up() {
	e.t.Helper()
	started := map[string]bool{}
	for len(started) < len(e.Services) {
		before := len(started)
		for _, name := range slices.Sorted(maps.Keys(e.Services)) {
			waits := slices.ContainsFunc(slices.Collect(maps.Keys(e.Services[name].DependsOn)),
				func(of string) bool { return !started[of] })
			if started[name] || waits {
				continue
			}
			e.await(name)
			e.start(name)
			started[name] = true
		}
		if len(started) == before {
			e.t.Fatalf("only %v can start", slices.Sorted(maps.Keys(started)))
		}
	}
}

// await waits for what a service depends on.
func (e *engine) await(name string) {
	e.t.Helper()
	for of, on := range e.Services[name].DependsOn {
		switch on.Condition {
		case "service_healthy":
			e.awaitHealthy(of)
		case "service_completed_successfully": // start has waited
		default:
			e.t.Fatalf("%s waits for %s: %q", name, of, on.Condition)
		}
	}
}

func (e *engine) awaitHealthy(name string) {
	e.t.Helper()
	s := e.Services[name]
	if !s.ours() { // start has waited
		return
	}
	if s.Healthcheck.Test[0] != "CMD" {
		e.t.Fatalf("%s: health check %q", name, s.Healthcheck.Test)
	}
	eventually(e.t, name+" to be ready", func() bool {
		cmd := exec.CommandContext(e.t.Context(), filepath.Join(e.programs, filepath.Base(s.Healthcheck.Test[1])),
			s.Healthcheck.Test[2:]...)
		cmd.Env = e.environment(name)
		return cmd.Run() == nil
	})
}

// start runs a service, to its end if others wait for that.
func (e *engine) start(name string) {
	e.t.Helper()
	s := e.Services[name]
	args := e.translate(name, slices.Concat(s.Entrypoint, s.Command))
	var program string
	switch {
	case s.ours():
		program = filepath.Join(e.programs, s.Build.Target)
		e.checkVariables(name, program)
	case strings.HasPrefix(s.Image, "postgres:") && len(s.Entrypoint) == 0:
		e.postgres(s)
		return
	case len(s.Entrypoint) > 0 && s.Entrypoint[0] == "sh":
		program, args = "/bin/sh", args[1:]
	default:
		e.t.Fatalf("%s: nothing is known that runs %s %q", name, s.Image, s.Entrypoint)
	}
	log := &proctest.Log{}
	p, err := proctest.StartWith(program, args, e.environment(name), log)
	if err != nil {
		e.t.Fatal(err)
	}
	e.running[name], e.logs[name] = p, log
	if !e.once(name) {
		return
	}
	select {
	case <-p.Done():
	case <-time.After(patience):
		e.t.Fatalf("%s does not end", name)
	}
	if p.ExitCode() != 0 {
		e.t.Fatalf("%s ended with %d", name, p.ExitCode())
	}
}

var variable = regexp.MustCompile(`\[(PAWL_\w+)\]`)

// checkVariables compares the variables of a service with those that its command's help names.
func (e *engine) checkVariables(name, program string) {
	e.t.Helper()
	s := e.Services[name]
	words := slices.IndexFunc(s.Command, func(arg string) bool { return strings.HasPrefix(arg, "-") })
	help, err := exec.CommandContext(e.t.Context(), program,
		append(slices.Clone(s.Command[:max(words, 0)]), "--help")...).Output()
	if err != nil {
		e.t.Fatalf("%s: %v", name, err)
	}
	known := map[string]bool{}
	for _, found := range variable.FindAllStringSubmatch(strings.Join(strings.Fields(string(help)), " "), -1) {
		known[found[1]] = true
	}
	for v := range s.Environment {
		if !known[v] {
			e.t.Fatalf("%s: %s does not know the variable %s", name, s.Build.Target, v)
		}
	}
}

// environment is what the container of a service has.
func (e *engine) environment(name string) []string {
	env := []string{"PATH=" + os.Getenv("PATH")}
	for v, value := range e.Services[name].Environment {
		env = append(env, v+"="+e.translate(name, []string{value})[0])
	}
	return env
}

// volume is the directory of a volume.
func (e *engine) volume(source string) string {
	dir := filepath.Join(e.dir, strings.TrimPrefix(source, "./"))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		e.t.Fatal(err)
	}
	return dir
}

var (
	paths     = regexp.MustCompile(`(^|[\s=,])(/[a-z][\w./-]*)`)
	addresses = regexp.MustCompile(`[\w.-]+:\d{4}\b`)
)

// translate makes paths and addresses of a service's container those of this host.
func (e *engine) translate(name string, args []string) (out []string) {
	e.t.Helper()
	s := e.Services[name]
	for _, arg := range args {
		arg = strings.ReplaceAll(arg, "$$", "$")
		arg = paths.ReplaceAllStringFunc(arg, func(found string) string {
			at := strings.Index(found, "/")
			for _, m := range s.mounts(e.t) {
				if rest, ok := strings.CutPrefix(found[at:], m.target); ok && (rest == "" || rest[0] == '/') {
					return found[:at] + e.volume(m.source) + rest
				}
			}
			if !s.ours() {
				return found // a file of the system, which a shell uses
			}
			if slices.ContainsFunc(s.mounts(e.t), func(m mount) bool { return filepath.Dir(m.target) == found[at:] }) {
				return found[:at] + e.gather(found[at:], s)
			}
			e.t.Fatalf("%s: nothing is mounted at %s", name, found)
			return found
		})
		out = append(out, addresses.ReplaceAllStringFunc(arg, func(at string) string { return e.address(name, at) }))
	}
	return out
}

// gather makes a directory that has several mounts in it.
func (e *engine) gather(parent string, s service) string {
	dir := e.volume("gathered" + parent)
	for _, m := range s.mounts(e.t) {
		at := filepath.Join(dir, filepath.Base(m.target))
		if _, err := os.Lstat(at); filepath.Dir(m.target) != parent || err == nil {
			continue
		}
		if err := os.Symlink(e.volume(m.source), at); err != nil {
			e.t.Fatal(err)
		}
	}
	return dir
}

// address is where an address of a container is on this host: of a listener, or of a service that listens there.
func (e *engine) address(name, addr string) string {
	e.t.Helper()
	host, port, _ := strings.Cut(addr, ":")
	if host == "0.0.0.0" {
		_, real, _ := strings.Cut(e.at(name+":"+port), ":")
		return net.JoinHostPort(host, real)
	}
	of, ok := e.Services[host]
	if !ok {
		e.t.Fatalf("%s: there is no service at %s", name, addr)
	}
	if host == "postgres" && port == "5432" {
		u, err := url.Parse(e.cluster.URL)
		if err != nil {
			e.t.Fatal(err)
		}
		return u.Host
	}
	if !slices.Contains(slices.Collect(maps.Values(of.Environment)), "0.0.0.0:"+port) {
		e.t.Fatalf("%s: %s does not listen on %s", name, host, port)
	}
	return e.at(addr)
}

// at is a free port of this host for one of a container.
func (e *engine) at(addr string) string {
	e.t.Helper()
	if e.ports[addr] == "" {
		free, err := proctest.FreeAddr()
		if err != nil {
			e.t.Fatal(err)
		}
		e.ports[addr] = free
	}
	return e.ports[addr]
}

// published is where the host reaches a port of a service's container.
func (e *engine) published(name, port string) string {
	e.t.Helper()
	for _, p := range e.Services[name].Ports {
		if strings.HasSuffix(p, ":"+port) {
			return e.address(name, name+":"+port)
		}
	}
	e.t.Fatalf("%s does not publish %s", name, port)
	return ""
}

// postgres is the database's image: a server with a user, a database and a password from a file.
func (e *engine) postgres(s service) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), patience)
	defer cancel()
	var err error
	if e.cluster, err = pgtest.Start(ctx, pgtest.Options{NoFsync: true}); err != nil {
		e.t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, e.cluster.URL)
	if err != nil {
		e.t.Fatal(err)
	}
	defer conn.Close(ctx) //nolint:errcheck // of a test
	for v := range s.Environment {
		if !slices.Contains([]string{"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD_FILE"}, v) {
			e.t.Fatalf("the stand-in for Postgres' image does not know the variable %s", v)
		}
	}
	password, err := os.ReadFile(e.translate("postgres", []string{s.Environment["POSTGRES_PASSWORD_FILE"]})[0])
	if err != nil || len(password) < 32 {
		e.t.Fatalf("the password: %v, %d characters", err, len(password))
	}
	user, database := pgx.Identifier{s.Environment["POSTGRES_USER"]}, pgx.Identifier{s.Environment["POSTGRES_DB"]}
	for _, line := range []string{
		fmt.Sprintf("CREATE ROLE %s SUPERUSER LOGIN PASSWORD '%s'", user.Sanitize(), password), // as the image's is
		fmt.Sprintf("CREATE DATABASE %s OWNER %s", database.Sanitize(), user.Sanitize()),
	} {
		if _, err := conn.Exec(ctx, line); err != nil {
			e.t.Fatal(err)
		}
	}
}
