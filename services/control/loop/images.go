package loop

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

// imageBytes bounds what images of all conversations are kept in memory. Each is needed at every turn, unless the
// conversation is in the form of the provider's API already.
const imageBytes = 64 << 20

// images keeps the images that models were shown last. They never change.
type images struct {
	mu    sync.Mutex // guards what follows
	bytes int
	order *list.List // of *keptImage, latest first
	byKey map[imageKey]*list.Element
}

type imageKey struct{ session, sha256 string }

type keptImage struct {
	key  imageKey
	data []byte
}

func newImages() *images { return &images{order: list.New(), byKey: map[imageKey]*list.Element{}} }

func (c *images) get(key imageKey) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.byKey[key]
	if !ok {
		return nil
	}
	c.order.MoveToFront(el)
	return el.Value.(*keptImage).data
}

func (c *images) put(key imageKey, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.byKey[key]; there {
		return
	}
	c.byKey[key] = c.order.PushFront(&keptImage{key, data})
	for c.bytes += len(data); c.bytes > imageBytes; {
		last := c.order.Remove(c.order.Back()).(*keptImage)
		delete(c.byKey, last.key)
		c.bytes -= len(last.data)
	}
}

// filled is a request with the images that its messages name. One that is not there any more is left out.
func (l *loop) filled(ctx context.Context, req model.Request) (model.Request, error) {
	var err error
	req.Messages, err = model.FillImages(req.Messages, func(i *model.Image) ([]byte, error) {
		key := imageKey{l.row.SessionID, i.SHA256}
		if data := l.tree.images.get(key); data != nil {
			return data, nil
		}
		data, err := l.tree.deps.Store.Image(ctx, key.session, key.sha256)
		if errors.Is(err, session.ErrNoImage) {
			l.tree.deps.Log.ErrorContext(ctx, "an image of a conversation is missing, going on without it",
				"session_id", key.session, "sha256", key.sha256)
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading an image of the conversation: %w", err)
		}
		l.tree.images.put(key, data)
		return data, nil
	})
	return req, err
}
