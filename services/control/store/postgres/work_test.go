package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/replica"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
	"github.com/pawl-dev/pawl/services/control/submission"
)

func key(name string) session.Key {
	return session.Key{Tenant: session.DefaultTenant, Agent: "agent", Instance: "instance", Name: name}
}

func message(role model.Role, text string) model.Message {
	return model.Message{Role: role, Content: []model.Block{{Type: model.TextBlock, Text: text}}}
}

func admission(name, owner string) submission.Admission {
	input, err := json.Marshal(message(model.User, "hi"))
	if err != nil {
		panic(err)
	}
	return submission.Admission{
		ID: ident.New(), Key: key(name), Input: input, InputHash: []byte("hash"),
		AgentDigest: "digest", Owner: owner,
	}
}

// start admits to an idle session and takes its lane.
func start(t testing.TB, s *postgres.Store, name, owner string) *lane.Lease {
	t.Helper()
	got, err := s.Admit(t.Context(), admission(name, owner))
	if err != nil {
		t.Fatal(err)
	}
	if got.Lease == nil {
		t.Fatal("the admission did not take the lane")
	}
	return got.Lease
}

// claim claims sessions' lanes.
func claim(t testing.TB, s *postgres.Store, owner string, limit int) []lane.Lease {
	t.Helper()
	got, err := s.Claim(t.Context(), owner, lane.KindSession, limit)
	if err != nil {
		t.Fatal(err)
	}
	return got.Leases
}

// step is a commit of one entry and one event of the root on top of a lease.
func step(l *lane.Lease) lane.Commit {
	root := l.Root()
	return lane.Commit{
		Fence: l.Fence, ID: ident.New(), EventHead: l.EventHead,
		Steps: []lane.Step{{
			LoopID: root.ID, SessionID: root.SessionID, EntryHead: root.EntryHead,
			Entries: []session.Entry{{
				Seq: root.EntryHead + 1, SubmissionID: root.ID, Kind: session.Assistant,
				Message: message(model.Assistant, fmt.Sprint("entry ", root.EntryHead+1)),
			}},
			Events: []event.Event{{
				Seq: l.EventHead + 1, Time: time.Now(), SubmissionID: root.ID,
				Type: event.EntryAdded, EntrySeq: root.EntryHead + 1,
			}},
		}},
	}
}

// settling is a step that settles.
func settling(l *lane.Lease) lane.Commit {
	c := step(l)
	c.Steps[0].End = &lane.Settlement{Outcome: lane.Completed, ResultEntry: l.Root().EntryHead + 1}
	return c
}

// parking is a step that parks the lane until mail comes, if its mail is what the lease says.
func parking(l *lane.Lease) lane.Commit {
	c := step(l)
	c.Park = &lane.Park{Mail: l.Mail, For: lane.Never}
	return c
}

// commit commits and moves the lease's heads.
func commit(ctx context.Context, s *postgres.Store, l *lane.Lease, c lane.Commit) (lane.Committed, error) {
	out, err := s.Commit(ctx, c)
	if err == nil {
		l.Root().EntryHead += int64(len(c.Steps[0].Entries))
		l.EventHead, l.Mail = l.EventHead+int64(len(c.Events())), out.Mail
	}
	return out, err
}

func live(t testing.TB, s *postgres.Store) string {
	t.Helper()
	id := ident.New()
	if _, err := s.RegisterReplica(t.Context(), replica.Replica{ID: id}, time.Minute); err != nil {
		t.Fatal(err)
	}
	return id
}

// dense checks that a session has n entries and n events, numbered from 1.
func dense(t testing.TB, s *postgres.Store, sessionID string, n int64) {
	t.Helper()
	entries, err := s.Entries(t.Context(), sessionID, 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	events, err := s.Events(t.Context(), sessionID, 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(entries)) != n || int64(len(events)) != n {
		t.Errorf("session %s has %d entries and %d events, want %d", sessionID, len(entries), len(events), n)
	}
	for i := range min(len(entries), len(events)) {
		if entries[i].Seq != int64(i)+1 || events[i].Seq != int64(i)+1 {
			t.Errorf("entry %d has seq %d, event %d has seq %d", i+1, entries[i].Seq, i+1, events[i].Seq)
		}
	}
}

// raw is a connection beside the stores.
func raw(t testing.TB, address string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// until asks again and again, which paces itself by the round trip, until the query is true.
func until(t testing.TB, conn *pgx.Conn, query string, args ...any) {
	t.Helper()
	for {
		var ok bool
		if err := conn.QueryRow(t.Context(), query, args...).Scan(&ok); err != nil {
			t.Fatalf("waiting until %s: %v", query, err)
		}
		if ok {
			return
		}
	}
}

const someoneWaits = `SELECT EXISTS (SELECT 1 FROM pg_stat_activity
	WHERE datname = current_database() AND wait_event_type = 'Lock')`

func refused(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error = %v, want %v", err, want)
	}
}

// An admission that meets itself has what it took: else its lane would have an owner that lives and knows nothing of
// it.
func TestAdmissionThatMeetsItselfHasItsLease(t *testing.T) {
	s := open(t, migrated.URL(t), postgres.Options{})
	a := admission("a", "")
	a.Owner = ident.New()
	first, second, err := s.AdmitAgain(t.Context(), a)
	if err != nil || first.Lease == nil || second.Lease == nil {
		t.Fatalf("%+v, then %+v, %v", first.Lease, second.Lease, err)
	}
	if second.Replayed || second.Lease.Fence != first.Lease.Fence ||
		second.Lease.Root().EntryHead != first.Lease.Root().EntryHead ||
		second.Lease.EventHead != first.Lease.EventHead {
		t.Errorf("%+v, then %+v", first.Lease, second.Lease)
	}
}
