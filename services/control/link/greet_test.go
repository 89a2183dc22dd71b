package link

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/link/peer"
	"github.com/pawl-dev/pawl/services/control/session"
)

// refusedFor fails unless an executor was refused for a reason, in words that contain some.
func (e *executor) refusedFor(reason string, says ...string) {
	e.t.Helper()
	err := e.ended()
	if rpc.Reason(err) != reason {
		e.t.Fatalf("the executor hears %v, want %s", err, reason)
	}
	for _, text := range says {
		if !strings.Contains(err.Error(), text) {
			e.t.Errorf("%q lacks %q", err, text)
		}
	}
}

func (e *executor) lives() {
	e.t.Helper()
	if err := e.ended(); err != nil {
		e.t.Errorf("it was ended: %v", err)
	}
}

// logged catches the warnings of a replica.
func (p *plane) logged() *bytes.Buffer {
	var log bytes.Buffer
	p.deps.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return &log
}

// A process that lost its connection takes over from what is left of that at once: it may be half open for long.
func TestReconnectReplacesAtOnce(t *testing.T) {
	within(t, 2, func(all []*plane) {
		began := time.Now()
		log := all[0].logged()
		me := first("j")
		old := all[0].connect(me)
		epoch := old.welcomed()
		old.deaf.Store(true)
		again := all[0].connect(me.reconnects(epoch))
		epoch = again.welcomed()
		old.refusedFor("SUPERSEDED")
		again.deaf.Store(true)
		all[1].connect(me.reconnects(epoch)).welcomed()
		if took := time.Since(began); took != 0 || log.Len() > 0 {
			t.Errorf("it took %s; the log says %q", took, log)
		}
	})
}

// A later start on the same journal has the name when nobody is connected, or nobody answers.
func TestRestart(t *testing.T) {
	within(t, 1, func(all []*plane) {
		log := all[0].logged()
		me := first("j")
		one := all[0].connect(me)
		one.welcomed()
		journal := all[0].cluster.db.known().JournalID
		one.close()
		synctest.Wait()
		me = me.again(0)
		two := all[0].connect(me)
		two.welcomed()
		two.deaf.Store(true)
		began := time.Now()
		three := all[0].connect(me.again(0).again(0)) // one start was not answered by anybody
		three.take()
		time.Sleep(peer.ProbeLimit)
		two.refusedFor("SUPERSEDED")
		three.lives()
		if took := time.Since(began); took != peer.ProbeLimit || log.Len() > 0 {
			t.Errorf("it took %s; the log says %q", took, log)
		}
		if now := all[0].cluster.db.known().JournalID; now != journal {
			t.Error("its journal counts as another one")
		}
	})
}

// Of two that run under one name the one that is connected and answers keeps it. The other hears what is wrong, in one
// exchange.
func TestNamesakes(t *testing.T) {
	me := first("j")
	for name, other := range map[string]start{
		"a copy of before it ran":     me.again(0),
		"another data directory":      first("another"),
		"a copy of the machine":       me,
		"a later start on a copy":     me.again(5).again(7),
		"one that was connected once": me.reconnects(7),
	} {
		for place, at := range map[string]int{"here": 0, "at another replica": 1} {
			t.Run(name+" "+place, func(t *testing.T) {
				within(t, 2, func(all []*plane) {
					log := all[at].logged()
					one := all[0].connect(me)
					one.welcomed()
					began, before := time.Now(), all[0].cluster.db.known()
					for n := range 3 {
						all[at].connect(other).refusedFor("NAME_IN_USE", "connected as e", "a name and a token of "+
							"its own", "stop that one first")
						if warned := strings.Count(log.String(), "level=WARN"); warned != n+1 {
							t.Errorf("the log has %d warnings of %d: %s", warned, n+1, log)
						}
					}
					one.lives()
					if took := time.Since(began); took != 0 {
						t.Errorf("it took %s", took)
					}
					if now := all[0].cluster.db.known(); now.ConnectionEpoch != before.ConnectionEpoch ||
						now.JournalID != before.JournalID {
						t.Errorf("%+v became %+v", before, now)
					}
				})
			})
		}
	}
}

// A machine was copied while its daemon was connected: both go on from one connection.
func TestCopiesOfOneProcess(t *testing.T) {
	within(t, 1, func(all []*plane) {
		me := first("j")
		one := all[0].connect(me)
		me = me.reconnects(one.welcomed())
		two := all[0].connect(me)
		two.welcomed()
		one.refusedFor("SUPERSEDED")
		all[0].connect(me).refusedFor("NAME_IN_USE")
		two.lives()
	})
}

// A replica that cannot be asked, or a connection of which it knows nothing, keeps nobody out.
func TestNobodyAnswers(t *testing.T) {
	for name, end := range map[string]func(all []*plane, e *executor){
		"the replica is dead":        func(all []*plane, _ *executor) { all[0].grpc.Stop() },
		"it has another connection":  func(all []*plane, _ *executor) { all[0].cluster.db.raise() },
		"the executor does not hear": func(_ []*plane, e *executor) { e.deaf.Store(true) },
		"nobody knows the connection": func(all []*plane,
			_ *executor,
		) {
			all[0].Drop(ErrDraining)
			all[0].cluster.db.raise()
		},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, 2, func(all []*plane) {
				me := first("j")
				one := all[0].connect(me)
				one.welcomed()
				end(all, one)
				two := all[1].connect(me.again(0))
				time.Sleep(peer.ProbeLimit + peer.Timeout)
				two.welcomed()
			})
		})
	}
}

// raise makes a later connection known than there is, as if it were recorded and its replica had died.
func (d *database) raise() {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.all["e"]
	e.ConnectionEpoch++
	d.all["e"] = e
}

// What a journal proves ends with the first Hello that does not continue it, and the log says so.
func TestJournalsOfAnExecutor(t *testing.T) {
	me := first("j")
	for name, c := range map[string]struct {
		then   start
		begun  int64 // as the Heartbeats of the first have said
		other  bool
		warned string
	}{
		"a restart":                             {me.again(0), 0, false, ""},
		"a restart after calls":                 {me.again(7), 7, false, ""},
		"an older state of the directory":       {me.again(6), 7, true, "an older state"},
		"a machine that was set back":           {me.reconnects(1), 7, true, "an older state"},
		"a directory that was copied before":    {first("j"), 0, true, "an older state"},
		"another directory":                     {first("k"), 0, true, "another data directory"},
		"a copy that has begun more by its own": {me.again(6).again(9), 7, true, "an older state"},
	} {
		for when, wait := range map[string]time.Duration{
			"known when it disconnects":   0,
			"known while it is connected": 2 * pingEvery,
		} {
			t.Run(name+", "+when, func(t *testing.T) {
				within(t, 1, func(all []*plane) {
					db, log := all[0].cluster.db, all[0].logged()
					one := all[0].connect(me)
					one.welcomed()
					before := db.known()
					one.begun.Store(c.begun)
					if wait == 0 {
						one.send(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Accepted{
							Accepted: &pawlv1.Accepted{Begun: c.begun},
						}})
						synctest.Wait()
					} else {
						time.Sleep(wait)
						synctest.Wait()
						if now := db.known().Journal.Begun; now != c.begun {
							t.Errorf("the database knows of %d calls, want %d", now, c.begun)
						}
						db.fail("Disconnect", errors.New("the replica dies and cannot say that the connection ended"))
					}
					one.close()
					synctest.Wait()
					db.fail("Disconnect", nil)
					two := all[0].connect(c.then)
					two.take()
					time.Sleep(peer.ProbeLimit)
					two.lives()
					now := db.known()
					if other := now.JournalID != before.JournalID; other != c.other {
						t.Errorf("it counts as another journal: %v, want %v", other, c.other)
					}
					if c.warned == "" && strings.Contains(log.String(), "data directory") ||
						!strings.Contains(log.String(), c.warned) {
						t.Errorf("the log says %q", log)
					}
				})
			})
		}
	}
}

// An answer about a call is bound to the journal as control knows it, so that a copy's proves nothing.
func TestStatusNamesTheJournal(t *testing.T) {
	within(t, 1, func(all []*plane) {
		p := all[0]
		p.owner.runs = true
		e := p.executor()
		for name, want := range map[string]string{"j": p.cluster.db.known().JournalID, "of another time": "of " +
			"another time"} {
			if err := p.Send(context.Background(), "e", attach("c")); err != nil {
				t.Fatal(err)
			}
			e.send(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Status{Status: &pawlv1.Status{
				Call: &pawlv1.CallState{CallId: "c", State: pawlv1.State_STATE_UNKNOWN}, JournalId: name,
			}}})
			if got := (<-p.owner.got).Body.(call.Found).Journal; got != want {
				t.Errorf("of the journal %q it says %q, want %q", name, got, want)
			}
		}
	})
}

// moving is a database in which others connect at the same time, a number of times.
type moving struct {
	*database
	times int
}

func (m *moving) GetExecutor(context.Context, string) (fleet.Executor, error) {
	e := m.known()
	e.Tenant = session.DefaultTenant
	if m.times > 0 {
		m.times--
		m.raise()
	}
	return e, nil
}

// Whoever connects at the same time as others is decided on by what is known then.
func TestDecidedByTheLatest(t *testing.T) {
	for times, reason := range map[int]string{1: "", registerTries - 1: "", registerTries: "NAME_CONTENDED"} {
		t.Run(strconv.Itoa(times), func(t *testing.T) {
			within(t, 1, func(all []*plane) {
				all[0].deps.Fleet = &moving{all[0].cluster.db, times}
				e := all[0].connect(first("j"))
				if reason != "" {
					e.refusedFor(reason)
				} else if epoch := e.welcomed(); epoch != int64(times)+1 {
					t.Errorf("after %d others it has connection %d", times, epoch)
				}
			})
		})
	}
}

// Of two connections that were recorded one after the other the later one stays, whichever is served first.
func TestOlderConnectionDoesNotReplaceANewerOne(t *testing.T) {
	within(t, 1, func(all []*plane) {
		newer := all[0].executor()
		c := all[0].connection("e")
		older := &connection{executor: fleet.Executor{ID: "e", ConnectionEpoch: c.executor.ConnectionEpoch - 1}}
		if err := all[0].take(older); !errors.Is(err, ErrSuperseded) || all[0].connection("e") != c {
			t.Errorf("an older connection took over: %v", err)
		}
		newer.lives()
	})
}

// Who has a slow network is no wrong executor.
func TestSlowHelloIsNoRefusal(t *testing.T) {
	within(t, 1, func(all []*plane) {
		conn, err := all[0].cluster.dial(all[0].id)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		stream, err := pawlv1.NewExecutorServiceClient(conn).Connect(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err = stream.Recv()
		if rpc.Reason(err) != "HELLO_LATE" || time.Since(began) != helloLimit {
			t.Errorf("after %s it hears %v", time.Since(began), err)
		}
	})
}

// Only an answer to the question shows that an executor is there. What it sent before it died may arrive later.
func TestWhatWasSentBeforeIsNoAnswer(t *testing.T) {
	within(t, 1, func(all []*plane) {
		me := first("j")
		one := all[0].connect(me)
		one.welcomed()
		one.deaf.Store(true)
		time.Sleep(pingEvery)
		synctest.Wait() // the first Ping was sent
		two := all[0].connect(me.again(0))
		synctest.Wait()
		beat := &pawlv1.ConnectRequest_Heartbeat{Heartbeat: &pawlv1.Heartbeat{Nonce: 1}}
		one.send(&pawlv1.ConnectRequest{Frame: beat})
		two.take()
		time.Sleep(peer.ProbeLimit)
		two.lives()
		one.refusedFor("SUPERSEDED")
	})
}

// An executor that drains leaves. The one that is to follow it waits for that instead of giving up.
func TestNamesakeOfAnExecutorThatDrains(t *testing.T) {
	for place, at := range map[string]int{"here": 0, "at another replica": 1} {
		t.Run(place, func(t *testing.T) {
			within(t, 2, func(all []*plane) {
				one := all[0].connect(first("j"))
				one.welcomed()
				one.send(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Draining{Draining: &pawlv1.Draining{}}})
				synctest.Wait()
				next := first("k")
				all[at].connect(next).refusedFor("NAME_CONTENDED", "draining")
				one.lives()
				one.close()
				synctest.Wait()
				all[at].connect(next).welcomed()
			})
		})
	}
}

// A connection whose executor has connected anew at a replica that could not reach this one ends here, although
// somebody answers at its other end.
func TestSupersededElsewhere(t *testing.T) {
	within(t, 2, func(all []*plane) {
		me := first("j")
		one := all[0].connect(me)
		one.welcomed()
		one.deaf.Store(true)
		two := all[1].connect(me.again(0))
		two.take()
		time.Sleep(peer.ProbeLimit)
		two.lives()
		one.deaf.Store(false)
		time.Sleep(2 * pingEvery)
		one.refusedFor("SUPERSEDED")
		if _, here := all[0].local.Local("e"); here {
			t.Error("its former replica takes it for its own")
		}
		two.lives()
	})
}

// An executor that another tenant's token has connected keeps its name.
func TestExecutorOfAnotherTenantIsRefused(t *testing.T) {
	within(t, 1, func(all []*plane) {
		db := all[0].cluster.db
		db.mu.Lock()
		db.all["e"] = fleet.Executor{ID: "e", Tenant: "acme"}
		db.mu.Unlock()
		all[0].connect(first("j")).refusedFor("EXECUTOR_IDENTITY")
	})
}
