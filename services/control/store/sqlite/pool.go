package sqlite

import (
	"context"
	"errors"
	"sync"
)

// pool hands out connections, one user each.
type pool struct {
	open  func() (*conn, error)
	slots chan struct{} // one per connection in use
	done  chan struct{} // closed to end

	mu   sync.Mutex
	idle []*conn
}

func newPool(size int, open func() (*conn, error), idle ...*conn) *pool {
	return &pool{open: open, slots: make(chan struct{}, size), done: make(chan struct{}), idle: idle}
}

// get waits for a connection and makes one when fewer than the pool's size exist.
func (p *pool) get(ctx context.Context) (*conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case p.slots <- struct{}{}:
	case <-p.done:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c := p.take(); c != nil {
		return c, nil
	}
	c, err := p.open()
	if err != nil {
		<-p.slots
	}
	return c, err
}

func (p *pool) take() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	c := p.idle[n-1]
	p.idle = p.idle[:n-1]
	return c
}

func (p *pool) put(c *conn) {
	p.mu.Lock()
	p.idle = append(p.idle, c)
	p.mu.Unlock()
	<-p.slots
}

// read runs f with a connection. A pool of the writer's connection gives it between transactions only, so that nothing
// uncommitted is seen.
func (p *pool) read(ctx context.Context, f func(*conn) error) error {
	c, err := p.get(ctx)
	if err != nil {
		return err
	}
	defer p.put(c)
	return f(c)
}

// close waits for the connections in use and closes all. It is called once.
func (p *pool) close() error {
	close(p.done)
	for range cap(p.slots) {
		p.slots <- struct{}{}
	}
	var errs []error
	for _, c := range p.idle {
		errs = append(errs, c.close())
	}
	return errors.Join(errs...)
}
