package crashtest_test

import (
	"context"
	"net"
	neturl "net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/internal/chaos/proxy"
	"github.com/pawl-dev/pawl/internal/pgtest"
)

// says waits until control has said something.
func (p *plane) says(text string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	if err := p.Log.Await(ctx, p.Process, text); err != nil {
		p.t.Fatal(err)
	}
}

// via is a proxy in front of what dial reaches.
func via(t *testing.T, dial proxy.Dial) *proxy.Proxy {
	t.Helper()
	x, err := proxy.Listen(dial)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Close)
	return x
}

// through is a database's URL by way of a proxy.
func through(t *testing.T, url string) (string, *proxy.Proxy) {
	t.Helper()
	u, err := neturl.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	x := via(t, proxy.To(u.Host))
	u.Host = x.Addr()
	return u.String(), x
}

// Crash matrix 20: a replica cannot reach Postgres any more. It stops by itself, the other one takes over when the
// lease is over, and the executor, which finds it through one address, has kept the result.
func TestReplicaLosesTheDatabase(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	bad, wire := through(t, url)
	one, two := newPlane(t, bad), newPlane(t, url)
	var at atomic.Pointer[plane]
	at.Store(one)
	balancer := via(t, func(ctx context.Context) (net.Conn, error) { return proxy.To(at.Load().GRPC)(ctx) })
	m := newMachineAt(t, one, balancer.Addr())
	sub := one.submit(command)
	m.awaitRunning()
	at.Store(two)
	wire.Set(proxy.Mode{HoldUp: true, HoldDown: true})
	m.release()
	m.awaitEnd()
	got := two.wait(sub.GetSubmissionId())
	m.once(got)
	if got.GetAttempts() != 1 {
		t.Errorf("%d attempts, want 1", got.GetAttempts())
	}
	one.says("lease was lost")
	wire.Set(proxy.Mode{})
	next := two.submit("echo next")
	if got := one.wait(next.GetSubmissionId()); got.GetResult().GetText() != "next" {
		t.Errorf("then %v: %q", got.GetOutcome(), got.GetResult().GetText())
	}
}

// Crash matrix 22: Postgres ends at once and comes back, or ends every connection again and again.
func TestPostgresRestarts(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	cluster, err := pgtest.Start(ctx, pgtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	one, two := newPlane(t, cluster.URL), newPlane(t, cluster.URL)
	m := newMachine(t, two)
	sub := one.submit(command)
	m.awaitRunning()
	if err := cluster.Crash(ctx); err != nil {
		t.Fatal(err)
	}
	m.release()
	m.once(two.wait(sub.GetSubmissionId()))

	for range 5 {
		sub := one.submit("echo a >> turns\necho b >> turns\necho done")
		for range 5 {
			administer(t, cluster.URL, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = "+
				"'client backend' AND pid <> pg_backend_pid()")
		}
		if got := two.wait(sub.GetSubmissionId()); !strings.HasSuffix(got.GetResult().GetText(), "done") {
			t.Errorf("settled %v: %q %v", got.GetOutcome(), got.GetResult().GetText(), got.GetError())
		}
	}
	if got, want := m.read("turns"), strings.Repeat("a\nb\n", 5); got != want {
		t.Errorf("the commands left %q", got)
	}
}

// administer runs a statement over a connection of its own.
func administer(t *testing.T, url, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx) //nolint:errcheck // the statement has been answered
	if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
}

// Crash matrix 23: Postgres fails over to a replica that lacks the last commits, epochs among them. The epochs of all
// lanes are raised before control starts: then a call that the database knows has its true result, and one that it has
// forgotten is ended.
func TestFailoverThatLostCommits(t *testing.T) {
	t.Parallel()
	cluster, err := pgtest.Start(t.Context(), pgtest.Options{NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	administer(t, cluster.URL, "CREATE DATABASE primary_db")
	p := newPlane(t, strings.Replace(cluster.URL, "/postgres?", "/primary_db?", 1))
	m := newMachine(t, p)
	sub := p.submit(command)
	m.awaitRunning()
	p.kill()
	// What was replicated ends here.
	administer(t, cluster.URL, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'primary_db'")
	eventually(t, "the connections to end", func() bool {
		return ask[int](t, cluster.URL, "SELECT count(*) FROM pg_stat_activity WHERE datname = 'primary_db'") == 0
	})
	administer(t, cluster.URL, "CREATE DATABASE promoted_db TEMPLATE primary_db")
	p.start()
	lost := p.submitTo("other", `mkdir away; cd away; echo lost >> ../lost; until [ -e ../go ]; do sleep 0.05; done; echo end >> ../lost`)
	eventually(t, "the command to run", func() bool { return m.read("lost") == "lost\n" })
	p.kill()

	p.Database = strings.Replace(cluster.URL, "/postgres?", "/promoted_db?", 1)
	administer(t, p.Database, "UPDATE lanes SET epoch = epoch + 1048576")
	p.start()
	away := filepath.Join(m.Root, "away")
	eventually(t, "the forgotten command to be ended", func() bool { return len(processes(t, "cwd", away)) == 0 })
	m.release()
	m.once(p.wait(sub.GetSubmissionId()))
	if got := m.read("lost"); got != "lost\n" {
		t.Errorf("the forgotten command left %q", got)
	}
	if again := p.submitTo("other", "echo again"); again.GetSubmissionId() == lost.GetSubmissionId() {
		t.Error("the new submission is the lost one")
	} else if got := p.wait(again.GetSubmissionId()); got.GetResult().GetText() != "again" {
		t.Errorf("then %v: %q", got.GetOutcome(), got.GetResult().GetText())
	}
}

// ask is the one value that a query answers with.
func ask[T any](t *testing.T, url, sql string, args ...any) (v T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx) //nolint:errcheck // the question has been answered
	if err := conn.QueryRow(ctx, sql, args...).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}
