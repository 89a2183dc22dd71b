package link

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/tool"
)

func attach(id string) *call.Attach {
	return &call.Attach{CallID: id, LaneID: "s", Epoch: 1, Dispatch: 1}
}

// An executor that reads nothing fills its stream, and what sends into that waits. Neither its end nor the server's
// waits for it.
func TestDeafExecutorHoldsUpNobody(t *testing.T) {
	for name, end := range map[string]func(p *plane){
		"the replica drains": func(p *plane) { p.Close() },
		"it falls silent":    func(*plane) { time.Sleep(2 * ttl) },
	} {
		t.Run(name, func(t *testing.T) {
			within(t, 1, func(all []*plane) {
				p := all[0]
				e := p.executor()
				release := e.pause()
				defer release()
				for range 24 {
					order := &call.Order{
						Call:    call.Call{ID: "c"},
						LaneID:  "s",
						Request: tool.WriteFile{Path: "p", Content: make([]byte, 1<<20)},
					}
					if err := p.Send(context.Background(), "e", order); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				if p.connection("e") == nil {
					t.Fatal("there is no connection to begin with")
				}
				end(p)
				if p.connection("e") != nil {
					t.Error("it is connected still")
				}
				if x, ok := p.local.Local("e"); ok {
					t.Errorf("the fleet has it still: %+v", x)
				}
			})
		})
	}
}

// Whether an interrupted call may run again is for its owner to say, wherever that is.
func TestInterruptedGoesToTheOwner(t *testing.T) {
	within(t, 2, func(all []*plane) {
		here, there := all[0], all[1]
		there.owner.runs = true
		db := here.cluster.db
		db.mu.Lock()
		db.owner = there.id
		db.calls = map[string]call.Call{"c": {ID: "c", LaneID: "s", Executor: "e", State: call.Dispatched}}
		db.mu.Unlock()
		e := here.executor()
		if err := there.Send(context.Background(), "e", attach("c")); err != nil {
			t.Fatal(err)
		}
		e.take()
		e.result("c", failed("INTERRUPTED"))
		got := <-there.owner.got
		if ended, ok := got.Body.(call.Ended); !ok || got.CallID != "c" || call.StateOf(ended.Reply) != call.Lost {
			t.Errorf("the owner hears %+v", got)
		}
		for _, m := range e.take() {
			if m.GetResultAck() != nil {
				t.Error("it was acknowledged before anybody has it on record")
			}
		}
	})
}

// What comes for calls that are over costs the replica that has the connection no look for another owner: frames that
// wait behind such looks come so late that what they are about is over, too.
func TestFramesOfCallsThatAreOver(t *testing.T) {
	for name, c := range map[string]struct {
		owns  bool
		looks int
	}{"the owner is there": {true, 1}, "the lane has gone elsewhere": {false, 100}} {
		t.Run(name, func(t *testing.T) {
			within(t, 2, func(all []*plane) {
				here, there := all[0], all[1]
				there.owner.owns = c.owns
				db := here.cluster.db
				db.mu.Lock()
				db.owner = there.id
				db.mu.Unlock()
				e := here.executor()
				if err := there.Send(context.Background(), "e", attach("c")); err != nil {
					t.Fatal(err)
				}
				e.take()
				for range 100 {
					e.accepts("c")
					synctest.Wait()
				}
				if n := db.tried("OwnerOf"); n != c.looks {
					t.Errorf("the owner was looked for %d times, want %d", n, c.looks)
				}
			})
		})
	}
}

// A call may be ordered between any two steps of a ping.
func TestPingNamesTheCallBeforeIt(t *testing.T) {
	within(t, 1, func(all []*plane) {
		p := all[0]
		e := p.executor()
		c := p.connection("e")
		for range 500 {
			c.out.ping()
			if err := p.Send(context.Background(), "e", attach("c")); err != nil {
				t.Fatal(err)
			}
			order := &call.Order{Call: call.Call{ID: "c"}, LaneID: "s", Request: tool.Exec{Command: "true"}}
			go c.out.ping()
			if err := p.Send(context.Background(), "e", order); err != nil {
				t.Fatal(err)
			}
		}
		e.take()
		if got := p.connection("e"); got != c {
			t.Error("a healthy connection was ended")
		}
	})
}

// An executor that sends and does not answer what it is sent is left, and one that answers without the call before the
// Ping at once.
func TestWhoDoesNotListenIsLeft(t *testing.T) {
	within(t, 1, func(all []*plane) {
		e := all[0].executor()
		e.deaf.Store(true)
		for range int(2 * ttl / time.Second) {
			time.Sleep(time.Second)
			_ = e.stream.Send(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Output{Output: &pawlv1.Output{CallId: "c"}}})
		}
		if err := e.ended(); rpc.Reason(err) != "SILENT" {
			t.Errorf("it only sends: %v", err)
		}
		e = all[0].executor()
		e.deaf.Store(true)
		c := all[0].connection("e")
		if err := all[0].Send(context.Background(), "e", &call.Order{
			Call:    call.Call{ID: "c"},
			LaneID:  "s",
			Request: tool.Exec{Command: "true"},
		}); err != nil {
			t.Fatal(err)
		}
		c.out.ping()
		e.send(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Heartbeat{Heartbeat: &pawlv1.Heartbeat{Nonce: c.out.nonce, LastCallId: "b"}}})
		if err := e.ended(); rpc.Reason(err) != "SILENT" || !strings.Contains(err.Error(),
			"call c was sent and did not arrive") {
			t.Errorf("it has not got the call: %v", err)
		}
	})
}

// A call's id that no database can hold ends the connection that said it.
func TestCallIDsAreChecked(t *testing.T) {
	within(t, 1, func(all []*plane) {
		for name, say := range map[string]func(e *executor){
			"result": func(e *executor) { e.result("a\x00b", failed("CANCELLED")) },
			"status": func(e *executor) {
				e.send(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Status{Status: &pawlv1.Status{Call: &pawlv1.CallState{CallId: strings.Repeat("a", maxText+1)}}}})
			},
		} {
			e := all[0].executor()
			say(e)
			if err := e.ended(); status.Code(err) != codes.InvalidArgument ||
				!strings.Contains(err.Error(), "call_id") {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// offer adds a tool to a Hello.
func offer(change func(*pawlv1.OfferedTool)) func(*pawlv1.Hello) {
	return func(h *pawlv1.Hello) {
		o := &pawlv1.OfferedTool{
			Name: "cad", Description: "Draws.", SchemaJson: `{"type": "object"}`,
			Safety: pawlv1.Safety_SAFETY_PURE, Timeout: durationpb.New(time.Minute),
		}
		if change != nil {
			change(o)
		}
		h.Tools = append(h.Tools, o)
	}
}

// What the database takes to answer is no silence of the executor.
func TestSlowDatabaseLeavesConnections(t *testing.T) {
	within(t, 1, func(all []*plane) {
		db := all[0].cluster.db
		db.mu.Lock()
		db.slow = 2 * ttl
		db.mu.Unlock()
		e := all[0].executor()
		for i := range 4 {
			e.result(fmt.Sprint("c", i), failed("CANCELLED"))
		}
		time.Sleep(9 * ttl)
		if err := e.ended(); err != nil {
			t.Error(err)
		}
	})
}

func TestHelloIsChecked(t *testing.T) {
	many := map[string]string{}
	for i := range maxLabels + 1 {
		many["l"+strings.Repeat("x", i)] = "v"
	}
	for name, c := range map[string]struct {
		change func(h *pawlv1.Hello)
		says   string // "" is accepted
	}{
		"as it should be": {func(*pawlv1.Hello) {}, ""},
		"labels":          {func(h *pawlv1.Hello) { h.Labels = map[string]string{"gpu": "a100"} }, ""},
		"labels not allowed": {
			func(h *pawlv1.Hello) { h.Labels = map[string]string{"gpu": "h100"} },
			"it allows gpu=a*",
		},
		"no incarnation": {func(h *pawlv1.Hello) { h.Incarnations = nil }, "0 incarnations"},
		"too many of them": {
			func(h *pawlv1.Hello) { h.Incarnations = make([]*pawlv1.Incarnation, 65) },
			"65 incarnations",
		},
		"a blank one": {
			func(h *pawlv1.Hello) { h.Incarnations = []*pawlv1.Incarnation{{}} },
			"incarnations.id",
		},
		"one of fewer than 0": {func(h *pawlv1.Hello) { h.Incarnations[0].Begun = -1 }, "-1 calls"},
		"a label's key":       {func(h *pawlv1.Hello) { h.Labels = map[string]string{"g pu": "a100"} }, "label's key"},
		"a label's value": {
			func(h *pawlv1.Hello) { h.Labels = map[string]string{"gpu": "a\x00"} },
			"value of label gpu",
		},
		"too many labels":      {func(h *pawlv1.Hello) { h.Labels = many }, "65 labels"},
		"a NUL in root":        {func(h *pawlv1.Hello) { h.Root = "/a\x00" }, "root"},
		"a long version":       {func(h *pawlv1.Hello) { h.Version = strings.Repeat("v", maxText+1) }, "version"},
		"two lines of version": {func(h *pawlv1.Hello) { h.Version = "v\n1" }, "version"},
		"an ESC in root":       {func(h *pawlv1.Hello) { h.Root = "/\x1b[2J" }, "root"},
		"too many slots":       {func(h *pawlv1.Hello) { h.Slots = 3_000_000_000 }, "3000000000 slots"},
		"no slots":             {func(h *pawlv1.Hello) { h.Slots = 0 }, "0 slots"},
		"a NUL in an id": {
			func(h *pawlv1.Hello) { h.Inflight = []*pawlv1.CallState{{CallId: "a\x00"}} },
			"inflight.call_id",
		},
		"no journal":       {func(h *pawlv1.Hello) { h.JournalId = "" }, "journal_id"},
		"another protocol": {func(h *pawlv1.Hello) { h.Protocol = 7 }, "protocol 7"},
		"another executor": {func(h *pawlv1.Hello) { h.ExecutorId = "f" }, `"f"`},
		"an unknown need":  {func(h *pawlv1.Hello) { h.RequiredCapabilities = []string{"fly"} }, "fly"},
		"a tool":           {offer(nil), ""},
		"the least of a tool": {
			offer(func(o *pawlv1.OfferedTool) { o.Safety, o.Timeout = 0, nil }), "",
		},
		"a tool without a name": {offer(func(o *pawlv1.OfferedTool) { o.Name = "" }), `"" cannot be a tool's name`},
		"a tool with a bad name": {
			offer(func(o *pawlv1.OfferedTool) { o.Name = "a b" }), `"a b" cannot be a tool's name`,
		},
		"a built-in tool":     {offer(func(o *pawlv1.OfferedTool) { o.Name = "bash" }), "tool bash: the name is taken"},
		"a server's tool":     {offer(func(o *pawlv1.OfferedTool) { o.Name = "mcp__a__b" }), "the name is taken"},
		"an undescribed tool": {offer(func(o *pawlv1.OfferedTool) { o.Description = " " }), "cad has no description"},
		"a tool without a schema": {
			offer(func(o *pawlv1.OfferedTool) { o.SchemaJson = "" }), "tool cad: its JSON Schema: ",
		},
		"a tool of no object": {
			offer(func(o *pawlv1.OfferedTool) { o.SchemaJson = `{"type":"string"}` }),
			"must be the JSON Schema of an object",
		},
		"a tool that refers elsewhere": {
			offer(func(o *pawlv1.OfferedTool) {
				o.SchemaJson = `{"type":"object","properties":{"a":{"$ref":"file:///etc/passwd"}}}`
			}), "tool cad: its JSON Schema: ",
		},
		"a long description": {
			offer(func(o *pawlv1.OfferedTool) { o.Description = strings.Repeat("d", 8193) }), "has 8193 bytes",
		},
		"a large schema": {
			offer(func(o *pawlv1.OfferedTool) {
				o.SchemaJson = `{"type":"object","title":"` + strings.Repeat("t", 65536) + `"}`
			}), "bytes, at most 65536 are possible",
		},
		"a tool that takes long": {
			offer(func(o *pawlv1.OfferedTool) { o.Timeout = durationpb.New(25 * time.Hour) }), "at most 24h",
		},
		"a tool twice": {
			func(h *pawlv1.Hello) { offer(nil)(h); offer(nil)(h) }, "tool cad is offered twice",
		},
		"many tools": {func(h *pawlv1.Hello) {
			for range tool.MaxOffered + 1 {
				offer(nil)(h)
			}
		}, "129 tools are offered"},
		"large tools": {func(h *pawlv1.Hello) {
			for i := range 100 {
				offer(func(o *pawlv1.OfferedTool) {
					o.Name, o.Description = fmt.Sprint("t", i), strings.Repeat("d", 4096)
				})(h)
			}
		}, "at most 262144 are possible"},
	} {
		t.Run(name, func(t *testing.T) {
			h := &pawlv1.Hello{
				Protocol: Protocol, ExecutorId: "e", BootId: "b", JournalId: "j", Slots: 1,
				Incarnations: []*pawlv1.Incarnation{{Id: "i"}},
			}
			c.change(h)
			_, err := checkHello(h, auth.Principal{Executor: "e", Labels: auth.Labels{"gpu": "a*"}})
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("says %v, want %q", err, c.says)
			}
		})
	}
}
