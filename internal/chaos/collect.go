package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/internal/chaos/check"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool"
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
		d.approvals,
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
	return d.each(ctx, `
SELECT session_id::text, seq, submission_id::text, kind, body FROM entries ORDER BY session_id, seq`,
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
	return d.each(ctx, `
SELECT lane_id::text, first_seq, last_seq, epoch, body FROM segments ORDER BY lane_id, first_seq`,
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
		&s.ResultEntry, &s.Usage, &s.Spent, &s.Host, &s.Urgent, &s.Compacts, &input, &where,
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
  CASE WHEN s.when_busy = 1 AND s.input_entry > 0 THEN s.host_id::text ELSE '' END, s.when_busy = 2,
  COALESCE((s.options::jsonb ->> 'compact')::boolean, false), s.input,
  format('status %s, phase %s, turn %s, attempts %s, stalls %s; '
      'lane state %s, due %s, epoch %s, owner %s (%s), now %s; open calls: %s',
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
			k.Session, k.State, k.Token = d.names[session], call.State(state), ""
			k.AtMostOnce = safety == int(tool.AtMostOnce)
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

func (d *database) approvals(ctx context.Context) error {
	var a check.Approval
	var state int16
	var writes []int16
	var at *float64
	return d.each(ctx, `
SELECT a.approval_id::text, a.call_id, a.state, COALESCE(array_agg(w.state ORDER BY w.n) FILTER (WHERE w.n > 0), '{}'),
  min(w.at) FROM approvals a LEFT JOIN chaos.approvals w USING (approval_id) GROUP BY a.approval_id`,
		[]any{&a.ID, &a.Call, &state, &writes, &at}, func() error {
			a.State, a.Writes, a.Decided = approval.State(state).String(), nil, 0
			for _, w := range writes {
				a.Writes = append(a.Writes, approval.State(w).String())
			}
			if at != nil {
				a.Decided = *at
			}
			d.evidence.Approvals = append(d.evidence.Approvals, a)
			return nil
		})
}

func sortedKeys[K ~string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
