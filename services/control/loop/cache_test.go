package loop

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

// exchange is the conversation of a session of one short prompt.
func exchange(t *testing.T, text string) *conversation {
	t.Helper()
	c := &conversation{}
	for i, role := range []model.Role{model.User, model.Assistant} {
		m := model.Message{Role: role, Content: []model.Block{{Type: model.TextBlock, Text: strings.Clone(text)}}}
		if role == model.Assistant {
			m.Model, m.Usage = &model.Ref{}, &model.Usage{}
		}
		if err := c.add(session.Entry{Seq: int64(i + 1), Message: m, CreatedAt: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func liveHeap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// However many sessions come to rest, and however short they are, the cache takes no more than it says that it does.
func TestSessionsAtRestTakeBoundedMemory(t *testing.T) {
	c := newCache()
	before := liveHeap()
	for i := range 10_000 {
		c.put(fmt.Sprintf("session-%032d", i), exchange(t, "say: hi"))
	}
	taken := liveHeap() - before
	if limit := int64(cacheBytes * 5 / 4); taken > limit {
		t.Errorf("the cache takes %d bytes, want at most %d", taken, limit)
	}
	if taken < cacheBytes/2 {
		t.Errorf("the cache takes %d bytes and counts %d", taken, c.bytes)
	}
	if c.bytes > cacheBytes || len(c.byID) != c.order.Len() {
		t.Errorf("%d bytes are counted, %d sessions by id, %d in order", c.bytes, len(c.byID), c.order.Len())
	}
	for e := c.order.Front(); e != nil; e = c.order.Front() {
		c.take(e.Value.(*cached).sessionID)
	}
	if c.bytes != 0 || len(c.byID) != 0 {
		t.Errorf("%d bytes of %d sessions are left after all were taken", c.bytes, len(c.byID))
	}
}

// A long conversation is the dearest to read again: the latest is kept though the others go for it.
func TestTheLatestLongConversationIsKept(t *testing.T) {
	c := newCache()
	c.put("short", exchange(t, "say: hi"))
	c.put("long", exchange(t, strings.Repeat("x", cacheBytes*3/4)))
	c.put("too long", exchange(t, strings.Repeat("x", largestCached)))
	for id, want := range map[string]int64{"short": 0, "long": 2, "too long": 0} {
		if got := c.take(id).head; got != want {
			t.Errorf("%s: the conversation is kept up to entry %d, want %d", id, got, want)
		}
	}
}

// Most parts of an answer are deltas: reading one's kind makes nothing that has to be collected.
func TestAPartCostsNoAllocation(t *testing.T) {
	l, a := &loop{}, &answer{}
	usage := item{part: model.Part{Type: model.PartUsage, Usage: model.Usage{Input: 7}}}
	if allocs := testing.AllocsPerRun(100, func() {
		if done, err := l.part(a, usage, true); done || err != nil || a.spent != usage.part.Usage {
			t.Fatal(done, err, a.spent)
		}
	}); allocs != 0 {
		t.Errorf("a part costs %v allocations", allocs)
	}
}
