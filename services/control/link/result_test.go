package link

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
)

func text(s string) *pawlv1.Result {
	return &pawlv1.Result{Outcome: &pawlv1.Result_Text{Text: &pawlv1.TextResult{Content: []byte(s)}}}
}

// resultAcks is which results were acknowledged since the last time.
func (e *executor) resultAcks() (ids []string) {
	for _, m := range e.take() {
		if a := m.GetResultAck(); a != nil {
			ids = append(ids, a.GetCallId())
		}
	}
	return ids
}

func (d *database) call(id string) call.Call {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls[id]
}

// An executor reports on the calls that were assigned to it. What another one is to do it cannot end.
func TestResultOfAnotherExecutorsCall(t *testing.T) {
	for _, state := range []call.State{call.Pending, call.Dispatched, call.Lost} {
		t.Run(state.String(), func(t *testing.T) {
			within(t, 1, func(all []*plane) {
				db := all[0].cluster.db
				db.put(call.Call{ID: "c", LaneID: "s", Executor: "f", State: state})
				e := all[0].executor()
				e.result("c", text("forged"))
				if acked := e.resultAcks(); len(acked) != 1 {
					t.Errorf("acknowledged: %q", acked)
				}
				if c := db.call("c"); c.State != state || c.Reply != nil || c.LateReply != nil {
					t.Errorf("it was recorded: %+v", c)
				}
			})
		})
	}
}

// A result that no run takes is recorded without the secrets of the session's agent, late ones too.
func TestRecordedResultsAreRedacted(t *testing.T) {
	for _, state := range []call.State{call.Dispatched, call.Lost} {
		t.Run(state.String(), func(t *testing.T) {
			within(t, 1, func(all []*plane) {
				db := all[0].cluster.db
				db.secrets = []string{"hunter2hunter2"}
				db.put(call.Call{ID: "c", LaneID: "s", Executor: "e", State: state})
				e := all[0].executor()
				e.result("c", text("it is hunter2hunter2"))
				if acked := e.resultAcks(); len(acked) != 1 {
					t.Errorf("acknowledged: %q", acked)
				}
				c := db.call("c")
				reply, err := builtin.Tools().Decode(builtin.NameRead, append(c.Reply, c.LateReply...))
				if err != nil {
					t.Fatal(err)
				}
				if kept, ok := reply.(tool.TextReply); !ok || string(kept.Content) != "it is [redacted]" {
					t.Errorf("%+v is on record", reply)
				}
			})
		})
	}
}

// Where the secrets cannot be known a result is left to its owner, and of a late one nothing is kept but that it came.
func TestResultWhoseSecretsAreUnknown(t *testing.T) {
	within(t, 1, func(all []*plane) {
		db := all[0].cluster.db
		db.unknown = agent.ErrVariable.With("env.TOKEN: variable TOKEN is not set")
		db.put(call.Call{ID: "open", LaneID: "s", Executor: "e", State: call.Dispatched})
		db.put(call.Call{ID: "lost", LaneID: "s", Executor: "e", State: call.Lost})
		e := all[0].executor()
		e.result("open", text("hunter2hunter2"))
		e.result("lost", text("hunter2hunter2"))
		if acked := strings.Join(e.resultAcks(), " "); acked != "lost" {
			t.Errorf("acknowledged: %q", acked)
		}
		if c := db.call("open"); c.State != call.Dispatched || c.Reply != nil {
			t.Errorf("it was recorded: %+v", c)
		}
		if c := db.call("lost"); !strings.Contains(string(c.LateReply), "WITHHELD") {
			t.Errorf("%s is kept", c.LateReply)
		}
		e.lives()
		db.mu.Lock()
		db.unknown = errors.New("the database is away")
		db.mu.Unlock()
		e.result("open", text("hunter2hunter2"))
		if err := e.ended(); err == nil {
			t.Error("a result that cannot be recorded now is not asked for again")
		}
	})
}

// Calls that are over, or never were, leave nothing behind at a connection that lives for long.
func TestCallsThatAreOverAreForgotten(t *testing.T) {
	rejected := func(id string) *pawlv1.ConnectRequest {
		return &pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Rejected{Rejected: &pawlv1.Rejected{
			CallId: id, Reason: pawlv1.Rejected_REASON_UNSUPPORTED,
		}}}
	}
	status := func(state pawlv1.State) func(id string) *pawlv1.ConnectRequest {
		return func(id string) *pawlv1.ConnectRequest {
			return &pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Status{Status: &pawlv1.Status{
				Call: &pawlv1.CallState{CallId: id, State: state},
			}}}
		}
	}
	accepted := func(id string) *pawlv1.ConnectRequest {
		return &pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Accepted{Accepted: &pawlv1.Accepted{CallId: id}}}
	}
	for name, c := range map[string]struct {
		says []func(id string) *pawlv1.ConnectRequest
		kept int
	}{
		"rejected":              {[]func(string) *pawlv1.ConnectRequest{rejected}, 0},
		"unknown":               {[]func(string) *pawlv1.ConnectRequest{status(pawlv1.State_STATE_UNKNOWN)}, 0},
		"a tombstone":           {[]func(string) *pawlv1.ConnectRequest{status(pawlv1.State_STATE_TOMBSTONE)}, 0},
		"it runs":               {[]func(string) *pawlv1.ConnectRequest{accepted}, 1},
		"a Cancel was rejected": {[]func(string) *pawlv1.ConnectRequest{accepted, rejected}, 1},
		"found, then rejected": {[]func(string) *pawlv1.ConnectRequest{
			status(pawlv1.State_STATE_RUNNING),
			rejected,
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, 1, func(all []*plane) {
				p := all[0]
				p.owner.runs = true
				e := p.executor()
				for i := range 100 {
					id := strconv.Itoa(i)
					if err := p.Send(context.Background(), "e", attach(id)); err != nil {
						t.Fatal(err)
					}
					for _, says := range c.says {
						e.send(says(id))
						if got := <-p.owner.got; got.LaneID != "s" {
							t.Errorf("it is reported to the session %q", got.LaneID)
						}
					}
				}
				synctest.Wait()
				if n := len(p.connection("e").calls.snapshot()); n != c.kept*100 {
					t.Errorf("%d calls are known to the connection, want %d", n, c.kept*100)
				}
			})
		})
	}
}

// What the executor is may be read while the connection says that it drains.
func TestDrainingWhileFramesCome(t *testing.T) {
	within(t, 1, func(all []*plane) {
		p := all[0]
		p.owner.runs = true
		e := p.executor()
		c := p.connection("e")
		if err := p.Send(context.Background(), "e", attach("k")); err != nil {
			t.Fatal(err)
		}
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				default:
					c.attach()
				}
			}
		}()
		for range 50 {
			e.send(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Accepted{
				Accepted: &pawlv1.Accepted{CallId: "k"},
			}})
			<-p.owner.got
		}
		close(stop)
		<-stopped
		e.send(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Draining{Draining: &pawlv1.Draining{}}})
		synctest.Wait()
		if x, ok := p.local.Local("e"); !ok || !x.Draining {
			t.Errorf("the fleet has %+v", x)
		}
	})
}

// An executor that reads nothing costs a bounded queue.
func TestQueueIsBounded(t *testing.T) {
	within(t, 1, func(all []*plane) {
		p := all[0]
		e := p.executor()
		c := p.connection("e")
		release := e.pause()
		defer release()
		most := 0
		for range 2*queueLimit + 10_000 {
			if err := p.Send(context.Background(), "e", attach(strings.Repeat("c", 100))); err != nil {
				break
			}
			c.out.mu.Lock()
			most = max(most, len(c.out.queue))
			c.out.mu.Unlock()
		}
		if most > queueLimit {
			t.Errorf("%d frames wait", most)
		}
		synctest.Wait()
		if p.connection("e") != nil {
			t.Error("it is connected still")
		}
	})
}

// The result of a command that is on record is acknowledged as soon as the end of the command is in the stream, be the
// turn over or not: its owner's own acknowledgement may be lost, and the executor keeps the result until one comes.
func TestResultWhoseOutputWasTaken(t *testing.T) {
	printed := &pawlv1.Result{Outcome: &pawlv1.Result_Exec{Exec: &pawlv1.ExecResult{
		Confirmed: true, Stdout: &pawlv1.Captured{Head: []byte("x"), Size: 1}, Stderr: &pawlv1.Captured{},
	}}}
	known := call.Call{ID: "c", LaneID: "s", Executor: "e", State: call.Done, Reply: []byte("{}")}
	told := known
	told.Shown = [2]int64{call.Told, call.Told}
	within(t, 1, func(all []*plane) {
		db, e := all[0].cluster.db, all[0].executor()
		db.put(told)
		e.result("c", printed)
		if acked := e.resultAcks(); len(acked) != 1 {
			t.Errorf("its end is in the stream; acknowledged: %q", acked)
		}
		db.put(known)
		e.result("c", printed)
		pass(10 * pingEvery)
		if acked := e.resultAcks(); len(acked) != 0 {
			t.Errorf("its output may not be in the stream; acknowledged: %q", acked)
		}
		db.put(told)
		pass(pingEvery)
		if acked := e.resultAcks(); len(acked) != 1 {
			t.Errorf("its output is in the stream since; acknowledged: %q", acked)
		}
	})
}
