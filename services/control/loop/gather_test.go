package loop_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// slow is a source that takes a while.
type slow struct {
	takes time.Duration
	asked atomic.Int32
	panic bool
}

func (s *slow) Tools(ctx context.Context, of loop.Offer) ([]*tool.Tool, error) {
	s.asked.Add(1)
	defer of.Awaits("server b")()
	of.Awaits("server a")()
	if s.panic {
		panic("a bad source")
	}
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		of.Miss("server b")
		return nil, ctx.Err()
	}
	return nil, nil
}

// withSlow is a bench whose tools take a while to gather.
func withSlow(t *testing.T, s *slow) *bench {
	t.Helper()
	b := newBench(t, agent.Shell())
	b.die()
	b.sources = append(loop.Sources(), s)
	b.start(agent.Shell())
	return b
}

func TestThoseWhoWatchAreToldThatToolsAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := withSlow(t, &slow{takes: 20 * time.Second})
		sub := b.wait(b.submit("s", "echo 1").ID)
		b.expect(sub, lane.Completed, "1")
		var said []string
		for _, e := range b.stream(sub.SessionID) {
			said = append(said, string(e.Type))
			if e.Type == event.ModelWaiting && (e.Wait.Reason != loop.WaitTools ||
				!strings.HasSuffix(e.Wait.Message, "waiting for server b")) {
				t.Errorf("told %+v", e.Wait)
			}
		}
		if len(said) < 4 || !slices.Equal(said[:3], []string{"started", "model_waiting", "model_waiting"}) ||
			said[3] == "model_waiting" {
			t.Errorf("the stream has %v", said)
		}
	})
}

// A sub-agent that has not begun has no stream of its own: the one of the loop that asks for it tells.
func TestToolsOfASubAgentAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := withSlow(t, &slow{takes: 5 * time.Second})
		sub := b.wait(b.submit("s", `tool task: {"prompt":"echo 2"}`).ID)
		b.expect(sub, lane.Completed, "2")
		waits := 0
		for _, e := range b.stream(sub.SessionID) {
			if e.Type == event.ModelWaiting && e.Loop == nil {
				waits++
			}
		}
		if waits != 2 {
			t.Errorf("told %d times of the waits of two loops", waits)
		}
	})
}

func TestAnAbortWhileToolsAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := withSlow(t, &slow{takes: time.Hour})
		sub := b.submit("s", "echo 1")
		time.Sleep(time.Second)
		begun := time.Now()
		if _, err := b.service.Abort(t.Context(), session.DefaultTenant, sub.ID); err != nil {
			t.Fatal(err)
		}
		settled := b.wait(sub.ID)
		if took := time.Since(begun); settled.Outcome != lane.Aborted || took > 5*time.Second {
			t.Errorf("%s after %s", settled.Outcome, took)
		}
	})
}

// A replica that drains does not wait for tools: another one gathers them.
func TestADrainWhileToolsAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{takes: time.Minute}
		b := withSlow(t, s)
		sub := b.submit("s", "echo 1")
		time.Sleep(time.Second)
		begun := time.Now()
		close(b.drain)
		if err := <-b.done; err != nil {
			t.Error(err)
		}
		b.done <- nil
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("it drained for %s", took)
		}
		b.start(agent.Shell())
		b.expect(b.wait(sub.ID), lane.Completed, "1")
		if s.asked.Load() != 2 {
			t.Errorf("asked %d times", s.asked.Load())
		}
	})
}

// A source that panics is an error of the attempt, as before it was asked beside the loop.
func TestASourceThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := withSlow(t, &slow{panic: true})
		if sub := b.wait(b.submit("s", "echo 1").ID); sub.Outcome != lane.Interrupted {
			t.Errorf("settled %s: %s", sub.Outcome, sub.Message)
		}
	})
}

// taking is a source whose tool has a name only if no other tool has it.
type taking struct{ tools []*tool.Tool }

func (s taking) Tools(_ context.Context, of loop.Offer) (free []*tool.Tool, err error) {
	for _, t := range s.tools {
		if !of.Taken(t.Name) {
			free = append(free, t)
		}
	}
	return free, nil
}

// Two servers can be given one prefix, and be of two sources. The second one costs its tool, and not the prompt.
func TestASourceKnowsWhichNamesAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		same, own, bash := define(t, spec("same", tool.Pure)), define(t, spec("own", tool.Pure)),
			define(t, spec("bash", tool.Pure))
		b := newBench(t, agent.Shell())
		b.die()
		b.sources = append(loop.Sources(), taking{[]*tool.Tool{same}}, taking{[]*tool.Tool{same, own, bash}})
		b.start(agent.Shell())
		b.expect(b.wait(b.submit("s", "echo 1").ID), lane.Completed, "1")
	})
}
