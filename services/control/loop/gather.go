package loop

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// WaitTools is why a call of the model waits until servers have listed their tools, see event.Wait.
const WaitTools = "TOOLS"

// gatherQuietly is how long tools are waited for before watchers are told. It is less than the time after which the
// commands take for granted that the model is waited for.
const gatherQuietly = 400 * time.Millisecond

// awaited is what sources wait for. Its methods may be called concurrently.
type awaited struct {
	mu   sync.Mutex // guards what follows
	what []string
}

func (a *awaited) add(what string) (done func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.what = append(a.what, what)
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if i := slices.Index(a.what, what); i >= 0 {
			a.what = slices.Delete(a.what, i, i+1)
		}
	}
}

func (a *awaited) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Join(slices.Sorted(slices.Values(a.what)), ", ")
}

// gathered is what sources have.
type gathered struct {
	tools tool.Set
	err   error
}

// gather is the tools of all sources. It tells watchers what it waits for if that takes long. When the loop is to end,
// it waits for nothing: it returns the tools that can be had at once, by which the loop shows what its calls came to.
func (l *loop) gather(ctx context.Context, of Offer) (tool.Set, error) {
	ctx, cancel := context.WithCancel(ctx)
	of.awaited = &awaited{}
	came := make(chan gathered, 1)
	go func() {
		var g gathered
		if err := contain.Do(func() error { g.tools, g.err = l.tree.offer(ctx, of); return nil }); err != nil {
			g.err = err
		}
		came <- g
	}()
	defer func() { // what is missing is written until then
		cancel()
		if came != nil {
			<-came
		}
	}()
	since, remind := time.Now(), time.NewTimer(gatherQuietly)
	defer remind.Stop()
	for l.checkStop(); ; l.checkStop() {
		if l.end.stop != nil {
			cancel()
			g := <-came
			came = nil
			return g.tools, nil
		}
		select {
		case g := <-came:
			came = nil
			return g.tools, g.err
		case <-remind.C:
			if err := l.toolsWait(of.awaited.String(), since); err != nil {
				return tool.Set{}, err
			}
			remind.Reset(waitPeriod)
		case <-l.tree.Leave():
			return tool.Set{}, l.goodbye()
		case <-l.Over():
		case <-l.Above():
		case <-l.Timeout():
			l.timedOut()
		}
	}
}

// toolsWait tells watchers what the model's tools wait for, "" for nothing that has a name. A sub-agent that has not
// begun has no stream: whoever it is to work for begins it, and says so.
func (l *loop) toolsWait(what string, since time.Time) error {
	if what == "" {
		return nil
	}
	tells := l.Strand
	if by := l.asker(); by != nil && l.row.Phase == lane.PhaseAccepted {
		tells = by
	}
	tells.Push(tells.Event(event.Event{Type: event.ModelWaiting, Wait: &event.Wait{
		Reason: WaitTools, Since: since, Message: "its tools are not known yet: waiting for " + what,
	}}))
	return tells.Flush()
}
