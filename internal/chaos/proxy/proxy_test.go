package proxy_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/chaos/proxy"
)

// echo is a server that sends back what it gets, and says what it got.
func echo(t *testing.T) (addr string, got chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	got = make(chan string, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 64)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					got <- string(buf[:n])
					if _, err := c.Write(buf[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String(), got
}

func open(t *testing.T) (*proxy.Proxy, net.Conn, chan string) {
	t.Helper()
	addr, got := echo(t)
	p, err := proxy.Listen(proxy.To(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return p, c, got
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, c net.Conn, want string) {
	t.Helper()
	buf := make([]byte, len(want))
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != want {
		t.Fatalf("%q, %v, want %q", buf, err, want)
	}
}

// silent checks that nothing comes within a moment: a held byte would be here in microseconds.
func silent(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Fatalf("%d bytes came", n)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
}

func TestPassesAndDelays(t *testing.T) {
	p, c, _ := open(t)
	say(t, c, "one")
	hear(t, c, "one")
	p.Set(proxy.Mode{Delay: 30 * time.Millisecond})
	began := time.Now()
	say(t, c, "two")
	hear(t, c, "two")
	if took := time.Since(began); took < 60*time.Millisecond {
		t.Errorf("there and back took %v, want twice the delay", took)
	}
}

// An answer that is held back and cut: the request was delivered, and who asked does not know.
func TestDeliveredAndCut(t *testing.T) {
	p, c, got := open(t)
	p.Set(proxy.Mode{HoldDown: true})
	say(t, c, "request")
	if r := <-got; r != "request" {
		t.Errorf("%q arrived", r)
	}
	silent(t, c)
	if n := p.Cut(); n != 1 {
		t.Errorf("%d connections cut", n)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection goes on")
	}
}

// What a half-open connection held comes late when it heals.
func TestHeldComesLate(t *testing.T) {
	p, c, got := open(t)
	p.Set(proxy.Mode{HoldUp: true})
	say(t, c, "late")
	select {
	case r := <-got:
		t.Errorf("%q passed", r)
	case <-time.After(20 * time.Millisecond):
	}
	p.Set(proxy.Mode{})
	hear(t, c, "late")
}

func TestRefuses(t *testing.T) {
	p, _, _ := open(t)
	p.Set(proxy.Mode{Refuse: true})
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		return // as good
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a connection was taken")
	}
}
