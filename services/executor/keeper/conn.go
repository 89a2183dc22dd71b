package keeper

import (
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/await"
)

const (
	// greetTimeout bounds the exchange of hellos.
	greetTimeout = 10 * time.Second
	// growthPause is between two messages about growing output: a chatty command costs one of them per pause.
	growthPause = 5 * time.Millisecond
)

// conn is the keeper's end of the connection to its daemon: serve reads it, write writes it. What is to be written
// waits as replies, and as the set of commands that changed, so that a daemon that does not read holds up nobody.
type conn struct {
	k  *keeper
	nc *net.UnixConn

	mu      sync.Mutex
	replies []*message
	grown   map[*call]bool
	ended   map[*call]bool

	wake await.Signal
	gone chan struct{}
}

// serve reads one daemon until it is gone. Everything that it sent is read and done before that.
func (k *keeper) serve(nc *net.UnixConn) {
	defer nc.Close()
	if err := k.greet(nc); err != nil {
		k.log.Warn("a daemon was not greeted", "err", err)
		return
	}
	cn := &conn{
		k: k, nc: nc, grown: map[*call]bool{}, ended: map[*call]bool{},
		wake: await.NewSignal(), gone: make(chan struct{}),
	}
	k.mu.Lock()
	k.conn = cn
	if k.closing {
		nc.Close()
	}
	k.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(cn.write)
	for {
		m, err := readMessage(nc)
		if err != nil {
			break
		}
		cn.handle(m)
	}
	k.mu.Lock()
	k.conn = nil
	for id, c := range k.calls {
		c.watch = nil
		if c.tied {
			k.wg.Go(func() { k.endTied(id, c) })
		}
	}
	k.mu.Unlock()
	close(cn.gone)
	nc.Close()
	wg.Wait()
}

func (k *keeper) greet(nc *net.UnixConn) error {
	if !sameUser(nc) {
		return fmt.Errorf("the daemon runs as another user")
	}
	nc.SetDeadline(time.Now().Add(greetTimeout))
	defer nc.SetDeadline(time.Time{})
	mine := &hello{Proto: maxProto, MinProto: minProto, Version: k.Version, PID: os.Getpid(), Keeper: k.name}
	if err := writeMessage(nc, &message{Kind: kindHello, Hello: mine}); err != nil {
		return err
	}
	m, err := readMessage(nc)
	if err != nil {
		return err
	}
	if m.Kind != kindHello || m.Hello == nil || m.Hello.Proto < minProto || m.Hello.Proto > maxProto {
		return fmt.Errorf("the daemon speaks no protocol of %d to %d", minProto, maxProto)
	}
	return nil
}

func (cn *conn) handle(m *message) {
	var s *state
	var err error
	switch m.Kind {
	case kindStart:
		if m.Spec == nil {
			m.Spec = &Spec{}
		}
		s, err = cn.k.start(cn, m.ID, m.Spec)
	case kindAttach:
		s, err = cn.k.attach(cn, m.ID)
	case kindKill:
		cn.k.killCall(m.ID, m.Grace, func(err error) { cn.reply(m.Seq, nil, err) })
		return
	case kindForget:
		cn.k.forgetCall(m.ID, func(err error) { cn.reply(m.Seq, nil, err) })
		return
	case kindRetire:
		cn.k.retire()
	default:
		err = fmt.Errorf("this keeper knows no %q", m.Kind)
	}
	cn.reply(m.Seq, s, err)
}

func (cn *conn) reply(seq uint64, s *state, err error) {
	m := &message{Kind: kindReply, Seq: seq, State: s}
	if err != nil {
		m.Err = toWire(err)
	}
	cn.mu.Lock()
	cn.replies = append(cn.replies, m)
	cn.mu.Unlock()
	cn.wake.Set()
}

// push notes that c changed.
func (cn *conn) push(c *call, ended bool) {
	cn.mu.Lock()
	set := cn.grown
	if ended {
		set = cn.ended
	}
	known := set[c]
	set[c] = true
	cn.mu.Unlock()
	if !known {
		cn.wake.Set()
	}
}

func (cn *conn) write() {
	pause := time.NewTimer(0)
	defer pause.Stop()
	<-pause.C
	resting := false
	for {
		select {
		case <-cn.wake:
		case <-pause.C:
			resting = false
		case <-cn.gone:
			return
		}
		out := cn.take(!resting)
		for _, m := range out {
			if writeMessage(cn.nc, m) != nil {
				cn.nc.Close() // the reader sees it, and ends this too
				<-cn.gone
				return
			}
			if m.Kind == kindEvent && m.State.End == nil && !resting {
				resting = true
				pause.Reset(growthPause)
			}
		}
	}
}

// take removes what is to be sent now.
func (cn *conn) take(growth bool) []*message {
	cn.k.mu.Lock()
	defer cn.k.mu.Unlock()
	cn.mu.Lock()
	defer cn.mu.Unlock()
	out := cn.replies
	cn.replies = nil
	// New maps, as small as what they hold: one that was large once takes as long to look through ever after.
	if len(cn.ended) > 0 {
		for c := range cn.ended {
			out = append(out, &message{Kind: kindEvent, State: c.stateLocked()})
			delete(cn.grown, c)
		}
		cn.ended = map[*call]bool{}
	}
	if growth && len(cn.grown) > 0 {
		for c := range cn.grown {
			out = append(out, &message{Kind: kindEvent, State: c.stateLocked()})
		}
		cn.grown = map[*call]bool{}
	}
	return out
}
