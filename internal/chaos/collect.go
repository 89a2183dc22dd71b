package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/internal/chaos/check"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/executor/journal"
)

// database reads what the database says into the evidence.
type database struct {
	conn     pgx.Tx
	evidence *check.Evidence
	names    map[string]string // of sessions, by id
	booted   time.Time
}

// collect reads the database.
func (c *cluster) collect(ctx context.Context, e *check.Evidence) error {
	conn, err := c.query(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // of a connection that is done
	// One picture, even if something still goes on.
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // nothing was written
	d := &database{conn: tx, evidence: e, names: map[string]string{}}
	if d.booted, err = booted(); err != nil {
		return err
	}
	for _, read := range []func(context.Context) error{
		d.sessions, d.entries, d.segments, d.submissions, d.settlings, d.owners, d.calls, d.rewrites, d.spoilt,
	} {
		if err := read(ctx); err != nil {
			return fmt.Errorf("reading the evidence: %w", err)
		}
	}
	return nil
}

// each calls f for every row of a query, its columns in targets.
func (d *database) each(ctx context.Context, sql string, targets []any, f func() error) error {
	rows, err := d.conn.Query(ctx, sql)
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, targets, f)
	return err
}

func (d *database) sessions(ctx context.Context) error {
	d.evidence.Sessions = map[string]*check.Session{}
	var id, name, of, parent string
	var epoch, entries, events int64
	return d.each(ctx, `
SELECT s.session_id::text, s.name, r.name, COALESCE(s.parent_call, ''), l.epoch, l.event_head,
  (SELECT COALESCE(max(entry_head), 0) FROM submissions b WHERE b.session_id = s.session_id)
FROM sessions s JOIN lanes l USING (lane_id) JOIN sessions r ON r.session_id = s.lane_id`,
		[]any{&id, &name, &of, &parent, &epoch, &events, &entries}, func() error {
			d.names[id] = name
			d.evidence.Sessions[name] = &check.Session{
				ID: id, Lane: of, ParentCall: parent, Epoch: epoch, EntryHead: entries, EventHead: events,
			}
			return nil
		})
}

func (d *database) entries(ctx context.Context) error {
	var session, kind string
	var submission *string
	var seq int64
	var body []byte
	return d.each(ctx, `SELECT session_id::text, seq, submission_id::text, kind, body FROM entries ORDER BY session_id, seq`,
		[]any{&session, &seq, &submission, &kind, &body}, func() error {
			entry := check.Entry{Seq: seq, Submission: text(submission), Kind: kind}
			if err := json.Unmarshal(body, &entry.Message); err != nil {
				return fmt.Errorf("entry %d of %s: %w", seq, d.names[session], err)
			}
			s := d.evidence.Sessions[d.names[session]]
			s.Entries = append(s.Entries, entry)
			return nil
		})
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func (d *database) segments(ctx context.Context) error {
	var session string
	var first, last, epoch int64
	var body []byte
	return d.each(ctx, `SELECT lane_id::text, first_seq, last_seq, epoch, body FROM segments ORDER BY lane_id, first_seq`,
		[]any{&session, &first, &last, &epoch, &body}, func() error {
			g := check.Segment{First: first, Last: last, Epoch: epoch}
			if err := json.Unmarshal(body, &g.Events); err != nil {
				return fmt.Errorf("events from %d of %s: %w", first, d.names[session], err)
			}
			for i := range g.Events {
				g.Events[i].Seq = first + int64(i)
			}
			s := d.evidence.Sessions[d.names[session]]
			s.Segments = append(s.Segments, g)
			return nil
		})
}

// marker is how prompts and commands can be told from their text.
var marker = regexp.MustCompile(`s\d+\.p\d+(\.t\d+\.c\d+)*`)

func (d *database) submissions(ctx context.Context) error {
	inputs := map[string]string{}
	for _, s := range d.evidence.Sessions {
		for _, e := range s.Entries {
			if e.Kind == "input" {
				inputs[e.Submission] = e.Message.Text()
			}
		}
	}
	var s check.Submission
	var session, where string
	var status int16
	var started *time.Time
	var input []byte
	said := map[string]string{} // by root
	err := d.each(ctx, submissionsSQL, []any{
		&s.ID, &session, &s.Root, &s.ParentCall, &s.Seq, &status, &started, &s.Outcome, &s.Reason, &s.Confirmed,
		&s.ResultEntry, &s.Usage, &s.Spent, &input, &where,
	}, func() error {
		text := inputs[s.ID]
		if text == "" && len(input) > 0 {
			var m model.Message
			if err := json.Unmarshal(input, &m); err != nil {
				return err
			}
			text = m.Text()
		}
		if parts := strings.Split(marker.FindString(text), "."); len(parts) > 1 && s.IsRoot() {
			said[s.ID] = parts[0] + "." + parts[1]
		}
		s.Session, s.Settled, s.Started, s.Where = d.names[session], status == 2, started != nil, ""
		if !s.Settled {
			s.Where = where
		}
		d.evidence.Submissions = append(d.evidence.Submissions, s)
		return nil
	})
	for i := range d.evidence.Submissions {
		of := &d.evidence.Submissions[i]
		of.Prompt = said[of.Root]
	}
	return err
}

const submissionsSQL = `
SELECT s.submission_id::text, s.session_id::text, s.root_id::text, COALESCE(s.parent_call, ''), s.seq, s.status,
  s.started_at, s.outcome, s.reason, COALESCE((s.cancellation::jsonb ->> 'confirmed')::boolean, false),
  s.result_entry,
  COALESCE((s.usage ->> 'input')::bigint, 0) + COALESCE((s.usage ->> 'output')::bigint, 0),
  (SELECT COALESCE(sum(COALESCE((t.usage ->> 'input')::bigint, 0) + COALESCE((t.usage ->> 'output')::bigint, 0)), 0)
    FROM turns t WHERE t.submission_id = s.submission_id)::bigint,
  s.input,
  format('status %s, phase %s, turn %s, attempts %s, stalls %s; lane state %s, due %s, epoch %s, owner %s (%s), now %s; open calls: %s',
    s.status, s.phase, s.turn, s.attempts, s.stalls, l.state, l.due_at, l.epoch, l.owner,
    COALESCE((SELECT r.addr || ' until ' || r.expires FROM replicas r WHERE r.replica_id = l.owner), 'no lease'),
    clock_timestamp(),
    (SELECT string_agg(format('%s state %s at %s (connected to %s)', c.call_id, c.state, c.executor, x.replica), ', ')
      FROM tool_calls c LEFT JOIN executors x ON x.executor_id = c.executor
      WHERE c.submission_id = s.submission_id AND c.state < 2))
FROM submissions s JOIN lanes l USING (lane_id) ORDER BY s.lane_id, s.seq`

func (d *database) settlings(ctx context.Context) error {
	var s check.Settling
	return d.each(ctx, `SELECT submission_id::text, again FROM chaos.settlings`, []any{&s.Submission, &s.Again},
		func() error {
			d.evidence.Settlings = append(d.evidence.Settlings, s)
			return nil
		})
}

func (d *database) owners(ctx context.Context) error {
	var session string
	var from, to *string
	var o check.Owner
	return d.each(ctx, `SELECT lane_id::text, epoch, old_owner::text, new_owner::text, old_lives, event_head
FROM chaos.owners ORDER BY n`,
		[]any{&session, &o.Epoch, &from, &to, &o.FromLives, &o.EventHead}, func() error {
			o.Session, o.From, o.To = d.names[session], text(from), text(to)
			d.evidence.Owners = append(d.evidence.Owners, o)
			return nil
		})
}

func (d *database) calls(ctx context.Context) error {
	var session string
	var entry int64
	var idx, safety, state int
	var made, ended *float64
	var k check.Call
	return d.each(ctx, `
SELECT c.call_id, s.session_id::text, c.submission_id::text, c.turn, c.idx, c.entry_seq, c.provider_id, c.safety,
  c.state, c.executor, c.late_reply IS NOT NULL, t.made, t.ended
FROM tool_calls c JOIN submissions s USING (submission_id) LEFT JOIN chaos.calls t USING (call_id) ORDER BY t.made`,
		[]any{
			&k.ID, &session, &k.Loop, &k.Turn, &idx, &entry, &k.Provider, &safety, &state, &k.Executor, &k.LateReply,
			&made, &ended,
		}, func() error {
			k.Session, k.State, k.AtMostOnce, k.Token = d.names[session], call.State(state), safety == int(tool.AtMostOnce), ""
			k.Created, k.Done = d.at(made), d.at(ended)
			// The entry that asked for the call holds what it asks for.
			if entries := d.evidence.Sessions[k.Session].Entries; entry >= 1 && int(entry) <= len(entries) {
				var asked []model.Block
				for _, b := range entries[entry-1].Message.Content {
					if b.Type == model.ToolCallBlock {
						asked = append(asked, b)
					}
				}
				if idx < len(asked) {
					k.Token = marker.FindString(string(asked[idx].Args))
				}
			}
			d.evidence.Calls = append(d.evidence.Calls, k)
			return nil
		})
}

// at is the time of this host at which a trigger has seen something: how long the host had been up. The database's own
// clock jumps in some runs.
func (d *database) at(up *float64) time.Time {
	if up == nil {
		return time.Time{}
	}
	return d.booted.Add(time.Duration(*up * float64(time.Second)))
}

// booted is when this host was, by its present clock.
func booted() (time.Time, error) {
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return time.Time{}, err
	}
	up, _, _ := strings.Cut(string(text), " ")
	seconds, err := strconv.ParseFloat(up, 64)
	return time.Now().Add(-time.Duration(seconds * float64(time.Second))), err
}

func (d *database) rewrites(ctx context.Context) error {
	var id, what string
	return d.each(ctx, `SELECT call_id, what FROM chaos.rewrites`, []any{&id, &what}, func() error {
		d.evidence.Rewrites = append(d.evidence.Rewrites, fmt.Sprintf("of call %s, %s", id, what))
		return nil
	})
}

func (d *database) spoilt(ctx context.Context) error {
	d.evidence.Spoiled = map[string]bool{}
	var id string
	return d.each(ctx, `SELECT submission_id::text FROM chaos.victims`, []any{&id}, func() error {
		d.evidence.Spoiled[id] = true
		return nil
	})
}

// readEffects reads what the commands left.
func readEffects(dir string) (map[string][]string, error) {
	all := map[string][]string{}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if f.IsDir() {
			continue
		}
		opened, err := os.Open(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(opened)
		for lines.Scan() {
			all[f.Name()] = append(all[f.Name()], lines.Text())
		}
		if err := errors.Join(lines.Err(), opened.Close()); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// readFiles reads whole files.
func readFiles(dir string) (map[string]string, error) {
	all := map[string]string{}
	files, err := os.ReadDir(dir)
	for _, f := range files {
		b, rerr := os.ReadFile(filepath.Join(dir, f.Name()))
		err = errors.Join(err, rerr)
		all[f.Name()] = string(b)
	}
	return all, err
}

// readJournal reads an executor's journal. The executor must have ended.
func readJournal(x *executor, sessions map[string]*check.Session) (out check.Journal, err error) {
	j, err := journal.Open(x.data, journal.Config{})
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	out = check.Journal{Executor: x.id, Epochs: map[string]int64{}}
	for _, s := range sessions {
		if s.ParentCall == "" {
			out.Epochs[s.ID] = j.Epoch(s.ID)
		}
	}
	for k := range j.Calls(func(*journal.Call) bool { return true }) {
		out.Calls = append(out.Calls, check.JournalCall{
			ID: k.CallID, Epoch: k.Epoch,
			Finished: k.State == journal.Finished,
		})
	}
	return out, nil
}

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
	rows, err := conn.Query(ctx, `SELECT executor_id FROM executors e JOIN replicas r ON r.replica_id = e.replica AND r.expires > clock_timestamp()`)
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
WHERE call_id = ANY($1) AND (c.state IN (2, 4) OR COALESCE((s.cancellation::jsonb ->> 'confirmed')::boolean, false))`, ids)
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

func sortedKeys[K ~string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
