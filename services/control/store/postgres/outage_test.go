package postgres_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pawl-dev/pawl/internal/chaos/proxy"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
)

// lines is a log that tells of each line.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
	got chan string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got <- string(p)
	return l.all.Write(p)
}

// An outage is one line however many operations meet it, and its end another, with how long it was.
func TestAnOutageIsOneLine(t *testing.T) {
	address := migrated.URL(t)
	config, err := pgx.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	network, server := pgconn.NetworkAddress(config.Host, config.Port)
	p, err := proxy.Listen(
		func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, network, server) },
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	through := url.URL{
		Scheme: "postgres", User: url.UserPassword(config.User, config.Password), Host: p.Addr(), Path: config.Database,
		RawQuery: "sslmode=disable",
	}
	log := &lines{got: make(chan string, 1000)}
	s := open(t, through.String(), postgres.Options{
		RetryFor: 3 * time.Second, Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() {
		if err := s.Listen(ctx, func([]string) {}); err != nil {
			t.Error(err)
		}
	})
	p.Set(proxy.Mode{Refuse: true})
	p.Cut()
	for range 8 {
		work.Go(func() {
			for ctx.Err() == nil {
				_, _ = s.ListExecutors(ctx) // fails until the proxy is mended
			}
		})
	}
	if line := <-log.got; !strings.Contains(line, `level=ERROR msg="the database cannot be reached, trying again"`) {
		t.Errorf("got %s", line)
	}
	p.Set(proxy.Mode{})
	if line := <-log.got; !strings.Contains(line, `level=INFO msg="the database answers again" duration=`) {
		t.Errorf("got %s", line)
	}
	cancel()
	work.Wait()
	if all := log.all.String(); strings.Count(all, "\n") != 2 {
		t.Errorf("got\n%s", all)
	}
}
