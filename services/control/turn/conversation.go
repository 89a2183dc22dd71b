package turn

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

const (
	entriesPage = 500
	// cacheBytes bounds what sessions at rest may keep in memory.
	cacheBytes = 8 << 20
)

// conversation is a session's history in memory, up to entry head.
type conversation struct {
	head     int64
	began    time.Time // of the first entry
	messages []model.Message
	last     session.Entry // entry head
	bytes    int           // of the messages
	memo     model.Memo    // what the model has made of the messages
	cwd      string        // that the model was told, "" until there was one
}

// size is about how many bytes the conversation takes.
func (c *conversation) size() int { return c.bytes + c.memo.Size() }

func (c *conversation) add(e session.Entry) {
	if c.head == 0 {
		c.began = e.CreatedAt
	}
	c.head, c.last = e.Seq, e
	c.messages = append(c.messages, e.Message)
	c.bytes += sizeOf(e.Message)
}

// answer is the model's last message.
func (c *conversation) answer() model.Message {
	for i := len(c.messages) - 1; i >= 0; i-- {
		if m := c.messages[i]; m.Role == model.Assistant {
			return m
		}
	}
	return model.Message{}
}

func sizeOf(m model.Message) int {
	n := 200
	for _, b := range m.Content {
		n += 100 + len(b.Text) + len(b.Args) + len(b.Details) + len(b.Opaque)
		if b.Image != nil {
			n += len(b.Image.Data)
		}
	}
	return n
}

// catchUp reads what is missing up to head.
func (c *conversation) catchUp(ctx context.Context, store Store, sessionID string, head int64) error {
	for c.head < head {
		page, err := store.Entries(ctx, sessionID, c.head, entriesPage)
		if err != nil {
			return fmt.Errorf("reading the conversation: %w", err)
		}
		if len(page) == 0 {
			return fmt.Errorf("reading the conversation: entries %d to %d are missing", c.head+1, head)
		}
		for _, e := range page {
			if e.Unreadable != nil {
				return fmt.Errorf("reading the conversation: %w", e.Unreadable)
			}
			c.add(e)
		}
	}
	return nil
}

// cache keeps the conversations of sessions at rest, so that the cost of a prompt does not grow with the session's
// history. Entries never change, so a cached conversation is a true prefix whoever wrote since.
type cache struct {
	mu    sync.Mutex // guards what follows
	bytes int
	order *list.List // of *cached, latest first
	byID  map[string]*list.Element
}

type cached struct {
	sessionID    string
	conversation *conversation
	bytes        int // of the conversation when it was put here
}

func newCache() *cache { return &cache{order: list.New(), byID: map[string]*list.Element{}} }

// take removes and returns the session's conversation; the lane's owner alone uses it then.
func (c *cache) take(sessionID string) *conversation {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.byID[sessionID]
	if !ok {
		return &conversation{}
	}
	c.remove(el)
	return el.Value.(*cached).conversation
}

// put keeps the conversation of a session that rests from now on. One that alone is more than the cache holds is not
// kept.
func (c *cache) put(sessionID string, kept *conversation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.byID[sessionID]; ok {
		c.remove(el)
	}
	if kept.size() > cacheBytes {
		kept.memo = model.Memo{} // to encode anew takes less than to read anew
	}
	if kept.size() > cacheBytes {
		return
	}
	e := &cached{sessionID, kept, kept.size()}
	c.byID[sessionID] = c.order.PushFront(e)
	c.bytes += e.bytes
	for c.bytes > cacheBytes {
		c.remove(c.order.Back())
	}
}

func (c *cache) remove(el *list.Element) {
	e := c.order.Remove(el).(*cached)
	delete(c.byID, e.sessionID)
	c.bytes -= e.bytes
}
