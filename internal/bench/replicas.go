package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/ident"
)

// watchers measures what 200 readers that wait for events of sessions at rest give the database to do: no more than
// one.
func watchers(ctx context.Context, r *run) error {
	p, err := r.plane(ctx, "--executor", "none")
	if err != nil {
		return err
	}
	conn, err := r.sql(ctx, p.Database)
	if err != nil {
		return err
	}
	n := r.some(200, 20)
	sessions := make([]string, n)
	for i := range sessions {
		key := &pawlv1.SessionKey{Agent: "shell", Instance: fmt.Sprint("watched-", i)}
		f, err := follow(ctx, p.conn, key, "say: hi")
		if err != nil {
			return err
		}
		sessions[i] = f.settled.GetSessionId()
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	watch := func(session string) error {
		_, err := pawlv1.NewSessionServiceClient(p.conn).WatchSession(ctx,
			&pawlv1.WatchSessionRequest{SessionId: session})
		return err
	}
	if err := watch(sessions[0]); err != nil {
		return err
	}
	_, one, err := r.traffic(ctx, conn)
	if err != nil {
		return err
	}
	for _, session := range sessions[1:] {
		if err := watch(session); err != nil {
			return err
		}
	}
	_, all, err := r.traffic(ctx, conn)
	r.add(Row{
		What: fmt.Sprintf("%d idle watchers, compared with one: transactions", n), Rate: perSecond(all),
		Floor: perSecond(one), Goal: flat,
	})
	return err
}

// replicas measures what a second replica costs the same load: processor time of the control planes and of the
// database, for each prompt. One and two of them are measured in turns, and only when they are warm: what a start costs
// is not counted.
func replicas(ctx context.Context, r *run) error {
	one, err := r.plane(ctx, "--executor", "none")
	if err != nil {
		return err
	}
	dir, err := r.newDir()
	if err != nil {
		return err
	}
	two, err := r.replica(dir, one.Database, "--executor", "none")
	if err != nil {
		return err
	}
	server, err := r.postmaster(ctx, one.Database)
	if err != nil {
		return err
	}
	var alone, both cost
	for range r.some(4, 1) {
		if err := alone.measure(ctx, r, server, one); err != nil {
			return err
		}
		if err := two.start(ctx); err != nil {
			return err
		}
		if err := both.measure(ctx, r, server, one, two); err != nil {
			return err
		}
		if err := terminate(two.Process); err != nil {
			return err
		}
	}
	r.add(Row{
		What: "prompt, no model, 64 clients of two replicas, compared with one: processor time of control, each",
		P50:  both.each(both.control), Floor: alone.each(alone.control), Goal: most(Ratio, 1.08),
	})
	r.add(Row{
		What: "… of the database, each", P50: both.each(both.database), Floor: alone.each(alone.database),
		Goal: most(Ratio, 1.15),
	})
	return nil
}

// cost is processor time, and what was done in it.
type cost struct {
	control, database time.Duration
	prompts           int
}

func (c *cost) each(d time.Duration) Quantity { return took(d / time.Duration(c.prompts)) }

// measure adds the cost of prompts by 64 clients in all.
func (c *cost) measure(ctx context.Context, r *run, server int, planes ...*plane) error {
	prompting := func(ctx context.Context, p *plane, total int) (figure, error) {
		return r.prompting(ctx, p, 64/len(planes), total/len(planes), func() string { return "shell/" + ident.New() })
	}
	// Connections, prepared statements and a heap as large as it becomes: of all planes at once, as they are measured.
	if _, err := together(ctx, planes, func(ctx context.Context, p *plane) (figure, error) {
		return prompting(ctx, p, r.some(4000, 500))
	}); err != nil {
		return err
	}
	before, err := family(server)
	if err != nil {
		return err
	}
	figures, err := together(ctx, planes, func(ctx context.Context, p *plane) (figure, error) {
		return prompting(ctx, p, r.some(8000, 800))
	})
	if err != nil {
		return err
	}
	after, err := family(server)
	c.database += after - before
	for _, f := range figures {
		c.control += f.cpu
		c.prompts += len(f.times)
	}
	return err
}

// together measures all planes at the same time.
func together(
	ctx context.Context, planes []*plane, measure func(context.Context, *plane) (figure, error),
) ([]figure, error) {
	figures := make([]figure, len(planes))
	g, ctx := errgroup.WithContext(ctx)
	for i, p := range planes {
		g.Go(func() (err error) {
			figures[i], err = measure(ctx, p)
			return err
		})
	}
	return figures, g.Wait()
}

// postmaster is the process that all processes of the database's server are children of.
func (r *run) postmaster(ctx context.Context, address string) (pid int, err error) {
	conn, err := r.sql(ctx, address)
	if err != nil {
		return 0, err
	}
	if err := conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		return 0, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(field(string(status), "PPid", "none")))
}
