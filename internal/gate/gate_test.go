package gate

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener of connections in memory, from addresses that a test chooses.
type pipes struct {
	incoming chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func newPipes() *pipes { return &pipes{incoming: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.incoming:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// end is a server's end of a pipe.
type end struct {
	net.Conn
	remote net.Addr
}

func (e end) RemoteAddr() net.Addr { return e.remote }

// rig is a server that keeps what it accepts, and reads it.
type rig struct {
	*testing.T
	pipes    *pipes
	listener net.Listener
	accepted chan net.Conn
}

func within(t *testing.T, l Limits, f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{T: t, pipes: newPipes(), accepted: make(chan net.Conn, 1000)}
		r.listener = New(l, slog.New(slog.DiscardHandler)).Listen(r.pipes)
		done := make(chan error, 1)
		var all []net.Conn
		go func() {
			for {
				c, err := r.listener.Accept()
				if err != nil {
					done <- err
					return
				}
				all = append(all, c)
				go func() { _, _ = io.Copy(io.Discard, c); _ = c.Close() }()
				r.accepted <- c
			}
		}()
		f(r)
		if err := r.listener.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		for _, c := range all {
			_ = c.Close()
		}
	})
}

// dial connects from an address and returns both ends; the server's is nil when it is not accepted now.
func (r *rig) dial(host string) (client, server net.Conn) {
	r.Helper()
	client, inner := net.Pipe()
	remote := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(host), 1))
	go func() {
		select {
		case r.pipes.incoming <- end{inner, remote}:
		case <-r.pipes.closed:
		}
	}()
	synctest.Wait()
	time.Sleep(time.Millisecond) // so that no two have been silent for equally long
	select {
	case server = <-r.accepted:
	default:
	}
	return client, server
}

// open reports whether a client's connection is open.
func open(client net.Conn) bool {
	_ = client.SetReadDeadline(time.Now().Add(time.Nanosecond))
	_, err := client.Read(make([]byte, 1))
	return !errors.Is(err, io.EOF)
}

func prove(server net.Conn) { Prove(server.RemoteAddr()) }

var small = Limits{Total: 8, OfSource: 6, Unproven: 4, Silence: time.Minute}

// For an unproven connection too many, the source that has most loses the one that has been silent for longest.
func TestUnprovenOfASource(t *testing.T) {
	within(t, small, func(r *rig) {
		other, _ := r.dial("10.0.0.2")
		first, _ := r.dial("10.0.0.1")
		second, _ := r.dial("10.0.0.1")
		if _, err := first.Write([]byte("x")); err != nil {
			r.Fatal(err)
		}
		third, _ := r.dial("10.0.0.1")
		newest, _ := r.dial("10.0.0.3")
		for name, c := range map[string]struct {
			conn net.Conn
			want bool
		}{
			"another's": {other, true}, "the one that spoke": {first, true}, "the silent one": {second, false},
			"the last of the same source": {third, true}, "the newest": {newest, true},
		} {
			if open(c.conn) != c.want {
				r.Errorf("%s is open: %v", name, !c.want)
			}
		}
	})
}

// Connections that come at once wait for each other to authenticate, and none is lost.
func TestABurstWaits(t *testing.T) {
	burst := Limits{Total: 8, OfSource: 8, Unproven: 2, Patience: time.Second, Silence: time.Minute}
	within(t, burst, func(r *rig) {
		first, server := r.dial("10.0.0.1")
		second, _ := r.dial("10.0.0.1")
		third, early := r.dial("10.0.0.1")
		if early != nil {
			r.Error("a third was accepted before one of two was known")
		}
		prove(server)
		synctest.Wait()
		if len(r.accepted) != 1 || !open(first) || !open(second) || !open(third) {
			r.Errorf("accepted: %d, open: %v %v %v", len(r.accepted), open(first), open(second), open(third))
		}
		<-r.accepted
		fourth, _ := r.dial("10.0.0.1")
		time.Sleep(burst.Patience)
		synctest.Wait()
		if len(r.accepted) != 1 || open(second) || !open(third) || !open(fourth) {
			r.Errorf("after its time the silent one is open: %v, accepted: %d", open(second), len(r.accepted))
		}
	})
}

// However many connect and say nothing, they hold no more connections than they may, and whoever authenticates keeps
// its own.
func TestStrangersTakeNoPlaceOfOthers(t *testing.T) {
	within(t, small, func(r *rig) {
		known, server := r.dial("10.0.0.1")
		prove(server)
		var strangers []net.Conn
		for i := range 200 {
			c, _ := r.dial(netip.AddrFrom4([4]byte{10, 1, byte(i), 1}).String())
			strangers = append(strangers, c)
		}
		n := 0
		for _, c := range strangers {
			if open(c) {
				n++
			}
		}
		if n != small.Unproven || !open(known) {
			r.Errorf("%d strangers are connected, the one that is known: %v", n, open(known))
		}
		another, server := r.dial("10.0.0.1")
		if server == nil || !open(another) {
			r.Error("nobody else is let in")
		}
	})
}

// When all that may be are proven, the next waits until one ends.
func TestFull(t *testing.T) {
	within(t, small, func(r *rig) {
		var servers []net.Conn
		for i := range small.Total {
			_, server := r.dial(netip.AddrFrom4([4]byte{10, 0, byte(i), 1}).String())
			prove(server)
			servers = append(servers, server)
		}
		// One is accepted, because Accept was under way, and not kept.
		if c, _ := r.dial("10.2.0.1"); open(c) {
			r.Error("one too many is open")
		}
		waiting, server := r.dial("10.2.0.2")
		if server != nil {
			r.Fatal("one too many was accepted")
		}
		if err := servers[0].Close(); err != nil {
			r.Fatal(err)
		}
		synctest.Wait()
		select {
		case <-r.accepted:
		default:
			r.Error("nobody was accepted for the one that has ended")
		}
		if !open(waiting) {
			r.Error("the one that waited is closed")
		}
	})
}

// One source does not get all connections, even if it is known.
func TestOneSourceLeavesRoom(t *testing.T) {
	within(t, small, func(r *rig) {
		for range small.OfSource {
			_, server := r.dial("10.0.0.1")
			prove(server)
		}
		if c, _ := r.dial("10.0.0.1"); open(c) {
			r.Error("one too many is open")
		}
		if c, server := r.dial("10.0.0.2"); server == nil || !open(c) {
			r.Error("another source is not let in")
		}
	})
}

func TestSilence(t *testing.T) {
	within(t, small, func(r *rig) {
		silent, _ := r.dial("10.0.0.1")
		talking, _ := r.dial("10.0.0.2")
		known, server := r.dial("10.0.0.3")
		prove(server)
		for range 4 {
			time.Sleep(small.Silence / 2)
			if _, err := talking.Write([]byte("x")); err != nil {
				r.Fatal(err)
			}
		}
		if open(silent) || !open(talking) || !open(known) {
			r.Errorf("open: the silent one %v, the one that speaks %v, the known one %v", open(silent), open(talking),
				open(known))
		}
	})
}

// What the servers hand on are addresses.
func TestProveByEitherAddress(t *testing.T) {
	within(t, small, func(r *rig) {
		for _, end := range []func(net.Conn) net.Addr{net.Conn.RemoteAddr, net.Conn.LocalAddr} {
			c, server := r.dial("10.0.0.1")
			Prove(end(server))
			time.Sleep(2 * small.Silence)
			if !open(c) {
				r.Error("it counts as unproven")
			}
		}
		Prove(&net.TCPAddr{})
		Prove(nil)
	})
}

func TestLimitsLeaveDescriptors(t *testing.T) {
	for _, n := range []uint64{1, 64, 1024, 1 << 20, 1<<64 - 1} {
		l := limitsOf(n)
		if n >= 64 && uint64(l.Total) > n/2 || l.Total < 1 || l.Unproven < 1 || l.Unproven > l.Total/2 ||
			l.Patience <= 0 || l.OfSource < 1 || l.OfSource >= l.Total || l.Silence <= 0 {
			t.Errorf("%d descriptors: %+v", n, l)
		}
	}
}
