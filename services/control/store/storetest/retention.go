package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/replica"
	"github.com/pawl-dev/pawl/services/control/retention"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
)

// deleteAll deletes in batches until there is no more, and checks that none is larger than limit.
func deleteAll(t tester, s store.Store, kind retention.Kind, age time.Duration, limit int) (deleted int) {
	t.Helper()
	for more, batches := true, 0; more; batches++ {
		b, err := s.DeleteBatch(ctx(t), kind, age, limit)
		ok(t, err)
		if batches > 10_000 {
			t.Fatalf("the batches of %s have no end", kind)
		}
		if b.Deleted > limit {
			t.Errorf("%d %s deleted at once, at most %d", b.Deleted, kind, limit)
		}
		deleted, more = deleted+b.Deleted, b.More
	}
	return deleted
}

// called starts a session whose first turn has n calls that are done.
func called(t tester, db DB, name string, n int) (*holder, []call.Call) {
	t.Helper()
	h := start(t, db.Store, name, live(t, db.Store))
	c := h.step(1)
	for i := range n {
		k := newCall(h, 1, i)
		k.State, k.Executor, k.Dispatch = call.Dispatched, "executor", 1
		c.Calls = append(c.Calls, k)
	}
	h.commit(t, c)
	for _, k := range c.Calls {
		complete(t, db.Store, k.ID, call.Done, `{}`)
	}
	return h, c.Calls
}

const month = retention.RecordAge

var retentionCases = []testCase{
	{"an answer of many segments is compacted in bounded batches", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		for range 3 {
			for range 40 {
				h.commit(t, h.deltas(1, event.Text))
			}
			h.commit(t, h.deltas(1, event.Restarted))
			h.commit(t, h.answer(1))
			for range 20 { // of a prompt that failed: nothing else tells what it said
				h.commit(t, h.deltas(1, event.Text))
			}
			h.commit(t, h.bound())
		}
		db.Advance(time.Hour)
		if n := deleteAll(t, db.Store, retention.Deltas, time.Minute, 7); n != 3*40 {
			t.Errorf("%d segments compacted, want %d", n, 3*40)
		}
		left, err := db.Second.Events(ctx(t), h.session(), 0, 1000)
		ok(t, err)
		if want := 1 + 3*(1+1+20+1); len(left) != want {
			t.Errorf("%d events are left, want %d", len(left), want)
		}
	}},
	{"what cannot be compacted is looked at once", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		for range 60 {
			h.commit(t, h.deltas(1, event.Text))
		}
		h.commit(t, h.bound())
		db.Advance(time.Hour)
		deleteAll(t, db.Store, retention.Deltas, time.Minute, 10)
		h.commit(t, h.deltas(1, event.Text))
		h.commit(t, h.answer(1))
		db.Advance(time.Hour)
		b, err := db.Second.DeleteBatch(ctx(t), retention.Deltas, time.Minute, 10)
		ok(t, err)
		if b.Deleted != 1 || b.More {
			t.Errorf("the first batch of the next pass: %+v, want the one new delta", b)
		}
	}},
	{"deltas are compacted after all events before them have expired", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		for range 2 {
			for range 5 {
				h.commit(t, h.deltas(1, event.Text))
			}
			h.commit(t, h.answer(1))
			db.Advance(time.Hour)
			if n := deleteAll(t, db.Store, retention.Deltas, time.Minute, 10); n != 5 {
				t.Errorf("%d deltas went, want 5", n)
			}
			deleteAll(t, db.Store, retention.Events, time.Minute, 10)
		}
	}},
	{"events of a lane that is gone keep no others from being deleted", func(t *testing.T, db DB) {
		gone := start(t, db.Store, "gone", live(t, db.Store))
		for range 5 {
			gone.commit(t, gone.deltas(1, event.Text))
		}
		db.Exec(`DELETE FROM lanes`)
		h := start(t, db.Store, "a", live(t, db.Store))
		h.commit(t, h.answer(1))
		db.Advance(time.Hour)
		if n := deleteAll(t, db.Store, retention.Events, time.Minute, 2); n != 8 {
			t.Errorf("%d segments went, want 8", n)
		}
	}},
	{"records of calls of the model go by their age, and what their requests began with", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		turn := 0
		record := func(n int, prefix string) {
			for range n {
				turn++
				c := h.step(0)
				c.Turn = &lane.Turn{Turn: turn, Model: "m", Prefix: []byte(prefix), PrefixBody: []byte(prefix)}
				h.commit(t, c)
			}
		}
		record(3, "first")
		record(1, "both")
		db.Advance(month / 2)
		record(2, "both")
		for _, want := range []int{0, 5, 3, 0} { // the first prefix with its turns, the other one with its last
			if n := deleteAll(t, db.Second, retention.Calls, month, 2); n != want {
				t.Errorf("%d records went, want %d", n, want)
			}
			db.Advance(month/2 + time.Minute)
		}
		h.commit(t, h.end(false))
	}},
	{"records of calls go when their submission settled long ago", func(t *testing.T, db DB) {
		settled, gone := called(t, db, "settled", 5)
		settled.commit(t, settled.end(false))
		_, open := called(t, db, "open", 2)
		db.Advance(month / 2)
		young, kept := called(t, db, "young", 2)
		young.commit(t, young.end(false))
		if n := deleteAll(t, db.Store, retention.Calls, month, 100); n != 0 {
			t.Errorf("%d calls went early", n)
		}
		db.Advance(month/2 + time.Minute)
		if n := deleteAll(t, db.Second, retention.Calls, month, 2); n != len(gone) {
			t.Errorf("%d calls went, want %d", n, len(gone))
		}
		for _, k := range gone {
			_, err := db.Store.GetCall(ctx(t), k.ID)
			refused(t, err, call.ErrNotFound)
		}
		for _, k := range append(open, kept...) {
			_, err := db.Store.GetCall(ctx(t), k.ID)
			ok(t, err)
		}
		if b, err := db.Store.DeleteBatch(ctx(t), retention.Calls, month, 1); err != nil || b != (retention.Batch{}) {
			t.Errorf("once more: %+v, %v", b, err)
		}
	}},
	{"executors go that nobody has seen for long, but none that is connected", func(t *testing.T, db DB) {
		r := live(t, db.Store)
		for i := range 5 {
			id := fmt.Sprint("away ", i)
			ok(t, db.Store.Disconnect(ctx(t), id, connect(t, db.Store, fleet.Executor{ID: id, Replica: r}), 0))
		}
		db.Advance(month + time.Minute)
		now := live(t, db.Store)
		connect(t, db.Store, fleet.Executor{ID: "young", Replica: now})
		connect(t, db.Store, fleet.Executor{ID: "connected", Replica: now})
		ttl := 2 * month
		_, err := db.Store.RegisterReplica(ctx(t), replica.Replica{ID: now}, ttl)
		ok(t, err)
		if n := deleteAll(t, db.Second, retention.Executors, month, 2); n != 5 {
			t.Errorf("%d executors went, want 5", n)
		}
		db.Advance(month + time.Minute)
		ok(t, db.Store.Disconnect(ctx(t), "young", 1, 0))
		if n := deleteAll(t, db.Store, retention.Executors, month, 2); n != 0 {
			t.Errorf("%d executors went, none was away for long", n)
		}
		seen := executor(t, db.Store, "connected")
		if !seen.Connected() {
			t.Errorf("it is connected all the time: %+v", seen)
		}
		b, err := db.Store.DeleteBatch(ctx(t), retention.Executors, month, 1)
		if ok(t, err); b.More {
			t.Error("a connected executor is looked at again and again")
		}
	}},
	{"an executor is away since its replica died, not since it connected", func(t *testing.T, db DB) {
		r := live(t, db.Store)
		epoch := connect(t, db.Store, fleet.Executor{ID: "e", Replica: r})
		db.Advance(month + time.Minute) // its replica has died, a moment ago as far as is known
		for range 2 {
			if n := deleteAll(t, db.Second, retention.Executors, month, 2); n != 0 {
				t.Errorf("%d executors went, it may have been there a moment ago", n)
			}
			db.Advance(month / 2)
		}
		if e := executor(t, db.Store, "e"); e.ConnectionEpoch != epoch || e.Connected() {
			t.Errorf("it is known as %+v", e)
		}
		db.Advance(time.Minute)
		if n := deleteAll(t, db.Store, retention.Executors, month, 2); n != 1 {
			t.Errorf("%d executors went, want the one that is away for long now", n)
		}
	}},
	{"tokens go long after their end, operators' stay", func(t *testing.T, db DB) {
		put(t, db.Store, auth.Token{Name: "alive"}, "alive", 0)
		for i := range 5 {
			hash := put(t, db.Store, auth.Token{Kind: auth.Client}, fmt.Sprint("revoked ", i), 0)
			ok(t, db.Store.RevokeToken(ctx(t), session.DefaultTenant, findToken(t, db.Store, hash).ID))
		}
		put(t, db.Store, auth.Token{Kind: auth.Executor, Executor: "e"}, "expired", time.Hour)
		put(t, db.Store, auth.Token{Kind: auth.Operator, Name: auth.OperatorName}, "directory", time.Hour)
		put(t, db.Store, auth.Token{Kind: auth.Operator}, "operator, expired", time.Hour)
		put(t, db.Store, auth.Token{Kind: auth.Client}, "lives", 2*month)
		ended := "operator, revoked"
		put(t, db.Store, auth.Token{Kind: auth.Operator, Name: auth.OperatorName}, ended, time.Hour)
		ok(t, db.Store.RevokeToken(ctx(t), session.DefaultTenant, findToken(t, db.Store, ended).ID))
		db.Advance(month - time.Hour)
		if n := deleteAll(t, db.Store, retention.Tokens, month, 2); n != 0 {
			t.Errorf("%d tokens went early", n)
		}
		db.Advance(3 * time.Hour)
		if n := deleteAll(t, db.Second, retention.Tokens, month, 2); n != 7 {
			t.Errorf("%d tokens went, want 7", n)
		}
		for _, hash := range []string{"alive", "operator, expired", "lives", ended} {
			findToken(t, db.Store, hash)
		}
	}},
	{"tickets go that nobody has used", func(t *testing.T, db DB) {
		for i := range 5 {
			one := auth.Ticket{Hash: []byte{byte(i)}, TokenHash: []byte("token")}
			ok(t, db.Store.CreateTicket(ctx(t), one, time.Duration(1+i/3)*time.Minute))
		}
		db.Advance(time.Minute)
		if n := deleteAll(t, db.Second, retention.Tickets, 0, 2); n != 3 {
			t.Errorf("%d tickets went, want 3", n)
		}
		_, err := db.Store.UseTicket(ctx(t), []byte{4})
		ok(t, err)
	}},
	{"definitions go that nothing needs", func(t *testing.T, db DB) {
		for _, d := range []string{"unused", "queued", "running", "settled", "used again"} {
			ok(t, db.Store.PutDefinition(ctx(t), d, "agent", []byte(d)))
		}
		pinned := func(digest, owner string) *lane.Lease {
			a := admission(digest)
			a.AgentDigest, a.Owner = digest, owner
			return admit(t, db.Store, a).Lease
		}
		pinned("queued", "")
		pinned("running", live(t, db.Store))
		settled := hold(db.Store, *pinned("settled", live(t, db.Store)))
		settled.commit(t, settled.end(false))
		db.Advance(month + time.Minute)
		ok(t, db.Second.PutDefinition(ctx(t), "used again", "agent", []byte("used again")))
		if n := deleteAll(t, db.Second, retention.Definitions, month, 2); n != 2 {
			t.Errorf("%d definitions went, want 2", n)
		}
		for d, want := range map[string]error{
			"unused": store.ErrDefinitionNotFound, "settled": store.ErrDefinitionNotFound, "queued": nil, "running": nil, "used again": nil,
		} {
			if body, err := db.Store.GetDefinition(ctx(t), d); !errors.Is(err, want) || err == nil &&
				string(body) != d {
				t.Errorf("%s: %q, %v", d, body, err)
			}
		}
		b, err := db.Store.DeleteBatch(ctx(t), retention.Definitions, month, 1)
		if ok(t, err); b.More {
			t.Error("a pinned definition is looked at again and again")
		}
	}},
}

// put stores a token that lasts for so long, 0 for ever, and whose hash is given, and returns that.
func put(t tester, s store.Store, tok auth.Token, hash string, life time.Duration) string {
	t.Helper()
	tok.ID, tok.Tenant, tok.Hash = ident.New(), session.DefaultTenant, []byte(hash)
	_, err := s.CreateToken(ctx(t), tok, life)
	ok(t, err)
	return hash
}
