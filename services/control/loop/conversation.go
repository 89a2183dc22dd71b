package loop

import (
	"container/list"
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

const (
	entriesPage = 500
	// entriesAtOnce is how many entries are read without looking first whether a summary stands for them.
	entriesAtOnce = 64
	// cacheBytes bounds what conversations at rest may keep in memory, but for the latest one. It spares the busiest
	// ones to be read again; the others cost one query per prompt.
	cacheBytes = 1 << 20
	// largestCached bounds each of them.
	largestCached = 2 << 20
	// conversationBytes is about what a conversation at rest takes beside its messages.
	conversationBytes = 512
	// entryBytes is about what an entry takes beside its message.
	entryBytes = 250
)

// conversation is what a model is told of a session, up to entry head, in memory. Entries that a summary stands for are
// not there.
type conversation struct {
	head     int64
	last     session.Entry         // of head
	began    time.Time             // of the first entry
	live     []session.Entry       // see session.Live
	messages []model.Message       // the context that they are
	digest   [sha256.Size]byte     // of the live entries
	bytes    int                   // that it takes, about
	tokens   int64                 // of the messages, about
	memo     model.Memo            // what the model has made of the messages
	known    atomic.Pointer[known] // see remember; nil for nothing
}

func (c *conversation) add(e session.Entry) error {
	body, err := e.Encode()
	if err != nil {
		return err
	}
	e.Body, e.Images = nil, nil // what stays in memory is the message
	if c.head == 0 {
		c.began = e.CreatedAt
	}
	c.head, c.last = e.Seq, e
	switch {
	case e.Kind != session.Summary:
		return c.extend(e, body)
	case len(c.live) == 0 || e.Range().To > c.live[0].Range().To:
		return c.rebuild(session.Live(append(c.live, e)))
	}
	return nil
}

// extend adds an entry to what is live.
func (c *conversation) extend(e session.Entry, body []byte) error {
	c.digest = sha256.Sum256(append(c.digest[:], body...))
	c.live = append(c.live, e)
	c.bytes += entryBytes
	n := len(c.messages)
	if n > 0 {
		c.count(c.messages[n-1], -1)
	}
	c.messages = session.Join(c.messages, e)
	for _, m := range c.messages[max(n-1, 0):] {
		c.count(m, 1)
	}
	return c.remember(e)
}

func (c *conversation) count(m model.Message, times int) {
	c.bytes += times * sizeOf(m)
	c.tokens += int64(times) * session.Tokens(m)
}

// rebuild makes the conversation of what is live.
func (c *conversation) rebuild(live []session.Entry) error {
	c.live, c.messages, c.memo = nil, nil, model.Memo{}
	c.known.Store(nil)
	c.digest, c.bytes, c.tokens = [sha256.Size]byte{}, 0, 0
	for _, e := range live {
		body, err := e.Encode()
		if err != nil {
			return err
		}
		e.Body = nil
		if err := c.extend(e, body); err != nil {
			return err
		}
	}
	return nil
}

// sizeOf is about how many bytes a message takes in memory.
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
	if head-c.head > entriesAtOnce {
		if err := c.skip(ctx, store, sessionID, head); err != nil {
			return err
		}
	}
	for c.head < head {
		page, err := store.Entries(ctx, sessionID, c.head, entriesPage)
		if err != nil {
			return fmt.Errorf("reading the conversation: %w", err)
		}
		if len(page) == 0 {
			return fmt.Errorf("reading the conversation: entries %d to %d are missing", c.head+1, head)
		}
		for _, e := range page {
			if e.Seq > head {
				break
			}
			if e.Unreadable != nil {
				return e.Unreadable // to a model it would be another conversation
			}
			if err := c.add(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// skip goes on after the range of the last summary, if that is between here and head: what it stands for is not read.
func (c *conversation) skip(ctx context.Context, store Store, sessionID string, head int64) error {
	s, found, err := store.LastSummary(ctx, sessionID)
	if err != nil {
		return fmt.Errorf("reading the conversation's summary: %w", err)
	}
	r := s.Range()
	switch {
	case !found || s.Seq > head || s.Unreadable == nil && r.To <= c.head:
		return nil
	case s.Unreadable != nil:
		return s.Unreadable
	}
	live := []session.Entry{s}
	for _, seq := range r.Keeps {
		kept, err := store.Entries(ctx, sessionID, seq-1, 1)
		if err != nil {
			return fmt.Errorf("reading what the summary keeps: %w", err)
		}
		if len(kept) == 0 || kept[0].Seq != seq {
			return fmt.Errorf("reading what the summary keeps: entry %d is missing", seq)
		}
		if kept[0].Unreadable != nil {
			return kept[0].Unreadable
		}
		live = append(live, kept[0])
	}
	c.head, c.began, c.last = r.To, r.Began, session.Entry{}
	return c.rebuild(live)
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
}

// size is about how many bytes it takes in memory.
func (e *cached) size() int { return conversationBytes + e.conversation.bytes }

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

// put keeps the conversation of a session that rests from now on, without what was made of it: to encode anew takes
// less than to read anew. One of more than largestCached is not kept.
func (c *cache) put(sessionID string, kept *conversation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.byID[sessionID]; ok {
		c.remove(el)
	}
	kept.memo = model.Memo{}
	e := &cached{sessionID, kept}
	if e.size() > largestCached {
		return
	}
	c.byID[sessionID] = c.order.PushFront(e)
	c.bytes += e.size()
	for c.bytes > cacheBytes && c.order.Len() > 1 {
		c.remove(c.order.Back())
	}
}

func (c *cache) remove(el *list.Element) {
	e := c.order.Remove(el).(*cached)
	delete(c.byID, e.sessionID)
	c.bytes -= e.size()
}
