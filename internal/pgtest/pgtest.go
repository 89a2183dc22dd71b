// Package pgtest gives each test a Postgres database of its own. It never skips: a machine without Postgres is mended
// or the test fails and says what to install.
//
//	PAWL_TEST_POSTGRES set ──────────────────────────▶ that server (the role must be allowed to create databases)
//	not set ──▶ installed binaries, else apt as root ──▶ a Cluster of this test binary, gone when the process is gone
//
// `make test` runs under internal/pgtest/start, which starts one cluster for all packages and sets the variable.
package pgtest

import (
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// Env names the variable with the URL of the server to use.
const Env = "PAWL_TEST_POSTGRES"

// patience bounds one administrative statement, which takes some 20 ms on an idle machine.
const patience = time.Minute

// URL gives the address of a fresh, empty database that is dropped when the test ends.
func URL(t testing.TB) string {
	t.Helper()
	return create(t, Template{})
}

// Template is a database that tests start from: prepared once per server, cloned for every test.
type Template struct {
	// Key stands for the content, for example a digest of the migrations: equal keys share one template, in other
	// packages and in later runs too.
	Key string
	// Prepare fills the empty database at url. It must have closed its connections when it returns.
	Prepare func(ctx context.Context, url string) error
}

// URL gives the address of a fresh clone that is dropped when the test ends.
func (tpl Template) URL(t testing.TB) string {
	t.Helper()
	return create(t, tpl)
}

// shared starts this binary's cluster at its first use; being reachable from here keeps the cluster alive.
var shared = sync.OnceValues(func() (*server, error) {
	if given := os.Getenv(Env); given != "" {
		return &server{url: given}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute) // apt may have to download
	defer cancel()
	cluster, err := Start(ctx, Options{})
	if err != nil {
		return nil, err
	}
	return &server{url: cluster.URL, cluster: cluster}, nil
})

func create(t testing.TB, tpl Template) string {
	t.Helper()
	srv, err := shared()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	name := "pawl_test_" + strings.ToLower(rand.Text())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := srv.clone(ctx, tpl, name); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() { // the test's own context is over by now
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := srv.drop(ctx, name); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return database(srv.url, name)
}

// database is the server's URL with another database.
func database(server, name string) string {
	u, err := url.Parse(server)
	if err != nil {
		return server // connecting has said, or will say, what is wrong with it
	}
	u.Path = "/" + name
	return u.String()
}
