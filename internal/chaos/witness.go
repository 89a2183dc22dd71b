package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/internal/chaos/check"
)

// witness looks for processes of calls that have ended, and for executors that are away for so long that it explains a
// lost outcome.
type witness struct {
	cluster  *cluster
	found    map[string]check.Survivor
	seen     map[string]time.Time // when executors were last connected
	absences []check.Absence
}

// attend notes which executors are connected to a replica that lives.
func (w *witness) attend(ctx context.Context, conn *pgx.Conn) {
	rows, err := conn.Query(ctx, `
SELECT executor_id FROM clock, executors e JOIN replicas r ON r.replica_id = e.replica
  AND r.expires > clock_timestamp() + ahead_us * interval '1 microsecond'`)
	if err != nil {
		return
	}
	here, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return
	}
	now := time.Now()
	for _, x := range w.cluster.executors {
		since, known := w.seen[x.id]
		if away := now.Sub(since); known && away > grace-grace/5 {
			w.absences = append(w.absences, check.Absence{Executor: x.id, From: since, To: now.Add(grace / 5)})
		}
		if slices.Contains(here, x.id) || !known {
			w.seen[x.id] = now
		}
	}
}

// watch looks again and again until ctx ends.
func (w *witness) watch(ctx context.Context) {
	for ctx.Err() == nil {
		w.look(ctx)
		wait(ctx, 500*time.Millisecond)
	}
}

// look finds processes whose calls the database holds to be over, and that are still there after it said so.
func (w *witness) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := w.cluster.query(ctx)
	if err != nil {
		return // it is down just now
	}
	defer conn.Close(ctx) //nolint:errcheck // of a connection that is done
	w.attend(ctx, conn)
	living := w.living()
	ids := sortedKeys(living)
	rows, err := conn.Query(ctx, `
SELECT call_id FROM tool_calls c JOIN submissions l USING (submission_id)
  JOIN submissions s ON s.submission_id = l.root_id
WHERE call_id = ANY($1)
  AND (c.state IN (2, 4) OR COALESCE((s.cancellation::jsonb ->> 'confirmed')::boolean, false))`, ids)
	if err != nil {
		return
	}
	over, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return
	}
	again := w.living()
	for _, id := range over {
		for pid, what := range again[id] {
			if living[id][pid] == what {
				w.found[id] = check.Survivor{Call: id, What: fmt.Sprintf("%d: %s", pid, what)}
			}
		}
	}
}

// living are the processes of this cluster's calls, by call and process.
func (w *witness) living() map[string]map[int]string {
	all := map[string]map[int]string{}
	processes("environ", w.cluster.dir, func(pid int, env []byte) {
		const name = "PAWL_CALL_ID="
		for v := range strings.SplitSeq(string(env), "\x00") {
			if id, ok := strings.CutPrefix(v, name); ok {
				cmd, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				if err != nil {
					continue
				}
				if all[id] == nil {
					all[id] = map[int]string{}
				}
				all[id][pid] = strings.ReplaceAll(string(cmd), "\x00", " ")
			}
		}
	})
	return all
}
