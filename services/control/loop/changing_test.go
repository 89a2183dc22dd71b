package loop_test

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// changing is a source whose tools are set by a test.
type changing struct {
	mu      sync.Mutex
	version int
	unknown bool
	asked   int
	tools   []*tool.Tool
	missing string
}

func (c *changing) set(tools []*tool.Tool, missing string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version++
	c.tools, c.missing = tools, missing
}

func (c *changing) Tools(_ context.Context, of loop.Offer) ([]*tool.Tool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if c.missing != "" {
		of.Miss(c.missing)
	}
	return c.tools, nil
}

func (c *changing) Version(context.Context, loop.Offer) (string, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strconv.Itoa(c.version), !c.unknown, nil
}

// Tools come and go between turns, and only when their source says so. Those who watch are told, without secrets.
func TestToolsThatChangeBetweenTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &changing{}
		late := define(t, spec("late", tool.Pure))
		source.set(nil, "server x is down: hunter2hunter2")
		ran := 0
		def := pinging()
		def.Env = agent.Env{"TOKEN": new("${SECRET}")}
		b := newBench(t, def)
		b.die()
		b.sources = append(loop.Sources(), function(t, tool.Pure, func(context.Context, tool.Call) (tool.Reply, error) {
			if ran++; ran == 1 {
				source.set([]*tool.Tool{late}, "")
			}
			return tool.Answer{Text: "pong"}, nil
		}), source)
		b.start(def)
		sub := b.wait(b.submit("s", askPing+"\n"+askPing+"\n"+askPing).ID)
		if sub.Outcome != lane.Completed {
			t.Fatalf("settled %s: %s", sub.Outcome, sub.Message)
		}
		var changes []event.Tools
		for _, e := range b.stream(sub.SessionID) {
			if e.Type == event.ToolsChanged {
				changes = append(changes, *e.Tools)
			}
		}
		if len(changes) != 2 || !slices.Equal(changes[0].Missing, []string{"server x is down: " + tool.Redacted}) ||
			changes[0].Added != nil || !slices.Equal(changes[1].Added, []string{"late"}) ||
			changes[1].Removed != nil || changes[1].Missing != nil {
			t.Errorf("the stream has %+v", changes)
		}
		if source.asked != 2 {
			t.Errorf("the source was asked %d times", source.asked)
		}
	})
}

// While a source cannot say whether its tools have changed, what was offered stands.
func TestToolsOfASourceThatCannotSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &changing{}
		source.set([]*tool.Tool{define(t, spec("late", tool.Pure))}, "")
		b := newBench(t, pinging())
		b.die()
		ran := 0
		b.sources = append(loop.Sources(), function(t, tool.Pure, func(context.Context, tool.Call) (tool.Reply, error) {
			source.mu.Lock()
			defer source.mu.Unlock()
			if ran++; ran < 3 {
				source.unknown, source.version = ran == 1, source.version+1
			}
			return tool.Answer{Text: "pong"}, nil
		}), source)
		b.start(pinging())
		sub := b.wait(b.submit("s", askPing+"\n"+askPing+"\n"+askPing).ID)
		if sub.Outcome != lane.Completed || source.asked != 2 {
			t.Errorf("settled %s: %s; asked %d times", sub.Outcome, sub.Message, source.asked)
		}
	})
}

// Progress is for those who watch.
func TestProgressOfACallIsShownToThoseWhoWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := withFunction(t, tool.Pure, func(ctx context.Context, _ tool.Call) (tool.Reply, error) {
			tool.Report(ctx, tool.Progress{Progress: 1, Total: 2, Message: "half"})
			time.Sleep(time.Second)
			return tool.Answer{Text: "pong"}, nil
		})
		of := func(s string, watch bool) (found []event.Progress) {
			if watch {
				watching := b.events.Subscribe(key(s), event.Want{Children: event.AllOfChildren})
				defer watching.Close()
			}
			sub := b.wait(b.submit(s, askPing).ID)
			for _, e := range b.stream(sub.SessionID) {
				if e.Type == event.ToolProgress {
					found = append(found, *e.Progress)
				}
			}
			return found
		}
		if got := of("alone", false); len(got) > 0 {
			t.Errorf("for nobody: %+v", got)
		}
		if got := of("watched", true); !slices.Equal(got, []event.Progress{{Progress: 1, Total: 2, Message: "half"}}) {
			t.Errorf("told %+v", got)
		}
	})
}
