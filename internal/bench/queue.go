package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/replica"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
)

// queueClients is how many submissions, or jobs, are on their way at a time.
const queueClients = 64

// throughput measures the way from admission to settlement of the cheapest submission, beside a bare queue: a table
// from which jobs are taken with SKIP LOCKED. They run in turns on one server, so that noise hits both.
func throughput(ctx context.Context, r *run) error {
	p, err := r.plane(ctx, "--executor", "none")
	if err != nil {
		return err
	}
	queue, err := r.bareQueue(ctx)
	if err != nil {
		return err
	}
	service := pawlv1.NewSubmissionServiceClient(p.conn)
	submit := func(ctx context.Context, _ int) error {
		got, err := service.Submit(ctx, &pawlv1.SubmitRequest{Key: &pawlv1.SessionKey{
			Agent:    "shell",
			Instance: ident.New(),
		}, Message: "say: x"})
		if err != nil {
			return err
		}
		_, err = service.WaitSubmission(ctx, &pawlv1.WaitSubmissionRequest{SubmissionId: got.GetSubmission().GetSubmissionId()})
		return err
	}
	var ours, bare figure
	for range r.some(4, 1) {
		for _, turn := range []struct {
			sum *figure
			do  func(context.Context, int) error
		}{{&bare, queue}, {&ours, submit}} {
			f, err := load(ctx, queueClients, 0, r.lasts()/2, turn.do)
			if err != nil {
				return err
			}
			turn.sum.times, turn.sum.whole = append(turn.sum.times, f.times...), turn.sum.whole+f.whole
		}
	}
	r.add(bare.row(Row{What: fmt.Sprintf("bare queue, insert, take, done, %d clients", queueClients)}))
	r.add(ours.row(Row{
		What:  fmt.Sprintf("submission, admit to settled, %d clients", queueClients),
		Floor: bare.rate(),
	}))
	return nil
}

// bareQueue is a queue without sessions, order, results, events or fences: three commits a job.
func (r *run) bareQueue(ctx context.Context) (func(context.Context, int) error, error) {
	address, err := r.newDatabase(ctx)
	if err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(address)
	if err != nil {
		return nil, err
	}
	config.MaxConns = queueClients
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	r.atEnd(func() error { pool.Close(); return nil })
	if _, err := pool.Exec(ctx, `CREATE TABLE jobs (id bigserial PRIMARY KEY, state smallint NOT NULL DEFAULT 0, body text NOT NULL);
		CREATE INDEX ON jobs (id) WHERE state = 0`); err != nil {
		return nil, err
	}
	return func(ctx context.Context, _ int) error {
		if _, err := pool.Exec(ctx, "INSERT INTO jobs (body) VALUES ('say: x')"); err != nil {
			return err
		}
		var id int64
		err := pgx.ErrNoRows
		for errors.Is(err, pgx.ErrNoRows) { // somebody took ours, and we did not see theirs yet
			err = pool.QueryRow(ctx, `UPDATE jobs SET state = 1 WHERE id = (
				SELECT id FROM jobs WHERE state = 0 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id`).Scan(&id)
		}
		if err != nil {
			return err
		}
		_, err = pool.Exec(ctx, "UPDATE jobs SET state = 2 WHERE id = $1", id)
		return err
	}, nil
}

// depth measures whether it matters how much is queued: to a claim, and to a prompt of a new session. Two control
// planes on one server, one with next to nothing queued, are measured in turns.
func depth(ctx context.Context, r *run) error {
	deep := r.some(200_000, 20_000)
	shallow, err := r.queued(ctx, 100)
	if err != nil {
		return err
	}
	full, err := r.queued(ctx, deep)
	if err != nil {
		return err
	}
	beside := fmt.Sprintf("beside %d queued, compared with 100", deep)
	n := r.some(1000, 100)
	base, f, err := turns(ctx, n, shallow.claim, full.claim)
	if err != nil {
		return err
	}
	r.add(f.row(Row{What: "claim and release, " + beside, Floor: base.p50(), Goal: flat}))
	base, f, err = turns(ctx, n, shallow.prompt, full.prompt)
	if err != nil {
		return err
	}
	r.add(f.row(Row{What: "prompt of a new session, " + beside, Floor: base.p50(), Goal: flat}))
	return nil
}

// queue is a control plane with submissions that are queued.
type queue struct {
	client *web
	store  *postgres.Store
	owner  string
}

// unknown is a kind of lane that no control plane runs.
const unknown lane.Kind = 9

// queued makes a control plane whose queue is so long. What is in it is of a kind that the control plane does not run,
// so that it leaves it alone.
func (r *run) queued(ctx context.Context, n int) (*queue, error) {
	p, err := r.plane(ctx, "--executor", "none")
	if err != nil {
		return nil, err
	}
	conn, err := r.sql(ctx, p.Database)
	if err != nil {
		return nil, err
	}
	if err := queueLanes(ctx, conn, n); err != nil {
		return nil, err
	}
	q := &queue{owner: ident.New()}
	if q.client, err = newWeb(p, 1); err != nil {
		return nil, err
	}
	r.atEnd(func() error { q.client.close(); return nil })
	if q.store, err = postgres.Open(ctx, p.Database, postgres.Options{}); err != nil {
		return nil, err
	}
	r.atEnd(q.store.Close)
	// Lanes of who is no replica are taken over at once.
	if _, err := q.store.RegisterReplica(ctx, replica.Replica{ID: q.owner}, time.Hour); err != nil {
		return nil, err
	}
	return q, errors.Join(q.claim(ctx), q.prompt(ctx)) // connections, statements
}

// claim takes a lane as a replica does, and hands it back.
func (q *queue) claim(ctx context.Context) error {
	got, err := q.store.Claim(ctx, q.owner, unknown, 1)
	if err != nil {
		return err
	}
	if len(got.Leases) != 1 {
		return fmt.Errorf("claimed %d lanes", len(got.Leases))
	}
	return q.store.Release(ctx, got.Leases[0].Fence, lane.Release{})
}

func (q *queue) prompt(ctx context.Context) error {
	_, err := q.client.prompt(ctx, "shell/"+ident.New(), "say: hi")
	return err
}

// queueLanes inserts sessions with one queued submission each.
func queueLanes(ctx context.Context, conn *pgx.Conn, n int) error {
	_, err := conn.Exec(ctx, `
		WITH n AS (SELECT gen_random_uuid() AS id FROM generate_series(1, $1::int)),
		s AS (INSERT INTO sessions (session_id, lane_id, agent, instance, name, created_at)
			SELECT id, id, 'shell', gen_random_uuid()::text, 'default', now() FROM n RETURNING session_id),
		l AS (INSERT INTO lanes (lane_id, kind, state, next_seq, pending, due_at)
			SELECT session_id, $2, 1, 2, 1, now() - random() * interval '1 hour' FROM s),
		q AS (SELECT gen_random_uuid() AS submission_id, session_id FROM s)
		INSERT INTO submissions (submission_id, root_id, lane_id, session_id, seq, agent_digest, input, event_base,
			status, accepted_at)
			SELECT submission_id, submission_id, session_id, session_id, 1, 'none', '{"role":"user","content":[]}', 0, 0,
				now() FROM q`, n, int16(unknown))
	if err != nil {
		return err
	}
	return tidy(ctx, conn)
}

// tidy does what the server would otherwise do sooner or later, in the middle of what is measured.
func tidy(ctx context.Context, conn *pgx.Conn) error {
	for _, statement := range []string{"VACUUM ANALYZE sessions, lanes, submissions", "CHECKPOINT"} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// leases measures what it costs to stay the owner of many running lanes: log and transactions of a control plane that
// does nothing else.
func leases(ctx context.Context, r *run) error {
	p, err := r.plane(ctx, "--executor", "none")
	if err != nil {
		return err
	}
	conn, err := r.sql(ctx, p.Database)
	if err != nil {
		return err
	}
	lanes := r.some(10_000, 1000)
	var volumes, transactions [2]float64
	for i, n := range []int{0, lanes} {
		if err := r.runLanes(ctx, p, conn, n); err != nil {
			return err
		}
		if volumes[i], transactions[i], err = r.traffic(ctx, conn); err != nil {
			return err
		}
	}
	what := fmt.Sprintf("lease of a replica with %d running lanes, compared with none", lanes)
	r.add(Row{
		What: what + ": log per renewal", P50: bytes(int64(volumes[1])), Floor: bytes(int64(volumes[0])),
		Goal: flat,
	})
	r.add(Row{
		What: what + ": transactions", Rate: perSecond(transactions[1]), Floor: perSecond(transactions[0]),
		Goal: flat,
	})
	return nil
}

// renewEvery is how often a replica renews its lease.
const renewEvery = 4 * time.Second

// statistics is after how long what a connection has done is in the statistics, even if it does nothing more.
const statistics = 12 * time.Second

// traffic is what the database is given to do meanwhile: bytes of log per renewal, transactions a second.
func (r *run) traffic(ctx context.Context, conn *pgx.Conn) (volume, transactions float64, err error) {
	read := func() (log, commits int64, err error) {
		return log, commits, conn.QueryRow(ctx, "SELECT "+walBytes+", xact_commit FROM pg_stat_database WHERE "+
			"datname = current_database()").Scan(&log, &commits)
	}
	// What was done before has to reach the statistics; and the first change of a page after a checkpoint is logged
	// with all of it.
	if err := wait(ctx, statistics); err != nil {
		return 0, 0, err
	}
	log, commits, err := read()
	if err != nil {
		return 0, 0, err
	}
	// The median: once in a while the server logs a page of its own affairs.
	var volumes []float64
	first, renewals := commits, r.some(3, 2)
	for range renewals {
		if err := wait(ctx, renewEvery); err != nil {
			return 0, 0, err
		}
		before := log
		if log, commits, err = read(); err != nil {
			return 0, 0, err
		}
		volumes = append(volumes, float64(log-before))
	}
	return quantile(volumes, 0.5), float64(commits-first) / (time.Duration(renewals) * renewEvery).Seconds(), nil
}

// runLanes makes lanes that run: their calls wait for an executor that is not there.
func (r *run) runLanes(ctx context.Context, p *plane, conn *pgx.Conn, n int) error {
	if n == 0 { // which load takes for no bound
		return nil
	}
	service := pawlv1.NewSubmissionServiceClient(p.conn)
	if _, err := load(ctx, 64, n, 0, func(ctx context.Context, _ int) error {
		key := &pawlv1.SessionKey{Agent: "shell", Instance: ident.New()}
		_, err := service.Submit(ctx, &pawlv1.SubmitRequest{Key: key, Message: "true"})
		return err
	}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for running := 0; running < n; {
		if err := wait(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		if err := conn.QueryRow(ctx, "SELECT count(*) FROM lanes WHERE state = 2").Scan(&running); err != nil {
			return err
		}
	}
	return tidy(ctx, conn)
}
