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

	mu     sync.Mutex
	idle   []*conn
	closed bool
}

func newPool(size int, open func() (*conn, error), idle ...*conn) *pool {
	return &pool{open: open, slots: make(chan struct{}, size), idle: idle}
}

// get waits for a connection and makes one when fewer than the pool's size exist.
func (p *pool) get(ctx context.Context) (*conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c, err := p.take()
	if err == nil && c == nil {
		c, err = p.open()
	}
	if err != nil {
		<-p.slots
	}
	return c, err
}

func (p *pool) take() (*conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	n := len(p.idle)
	if n == 0 {
		return nil, nil
	}
	c := p.idle[n-1]
	p.idle = p.idle[:n-1]
	return c, nil
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

// close waits for the connections in use and closes all.
func (p *pool) close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.mu.Unlock()
	for range cap(p.slots) {
		p.slots <- struct{}{}
	}
	var errs []error
	for _, c := range p.idle {
		errs = append(errs, c.close())
	}
	return errors.Join(errs...)
}
