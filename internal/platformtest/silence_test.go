package platformtest_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/platformtest"
)

// A client that goes silent without hanging up costs a connection for minutes, and not for ever.
func TestSilentClientsAreLeft(t *testing.T) {
	const prompt = "POST /agents/shell/i HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
	const message = `{"message":"say: hi"}`
	for name, c := range map[string]struct {
		sends string
		reads bool   // what comes at once
		says  string // of what comes in the end
	}{
		"it has its answer":        {"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", true, "ok"},
		"its request has no end":   {"GET /healthz HTTP/1.1\r\nHost", true, "400 Bad Request"},
		"its body is for nobody":   {fmt.Sprintf(prompt, "nobody", 100, `{"message":`), true, "unauthenticated"},
		"its body has no end":      {fmt.Sprintf(prompt, "TOKEN", 100, `{"message":`), false, "did not arrive within 2m0s"},
		"it does not take answers": {fmt.Sprintf(prompt, "TOKEN", len(message), message), false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := platformtest.Start(t)
				conn := dialWeb(t, p)
				if _, err := io.WriteString(conn, strings.ReplaceAll(c.sends, "TOKEN", p.Token)); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				got := ""
				if c.reads {
					b := make([]byte, 1<<10)
					n, err := conn.Read(b)
					if err != nil {
						t.Fatal(err)
					}
					got = string(b[:n])
				}
				if c.says == "" { // it reads nothing before the server must have given up
					time.Sleep(5 * time.Minute)
				}
				began := time.Now()
				rest, err := io.ReadAll(conn)
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > 4*time.Minute {
					t.Errorf("the connection lived for %s", took)
				}
				if got += string(rest); !strings.Contains(got, c.says) || c.says == "" && got != "" {
					t.Errorf("got %q, want %q", got, c.says)
				}
			})
		})
	}
}

// An answer's deadline is not that of the next one on the connection.
func TestConnectionsAreKeptWhileTheyAreUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := platformtest.Start(t)
		conn := dialWeb(t, p)
		for range 3 {
			message := `{"message":"echo hi"}`
			if _, err := fmt.Fprintf(conn, "POST /agents/shell/i HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
				p.Token, len(message), message); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 4<<10)
			n, err := conn.Read(b)
			if err != nil || !strings.HasPrefix(string(b[:n]), "HTTP/1.1 200") {
				t.Fatalf("%q, %v", b[:n], err)
			}
		}
	})
}

func dialWeb(t *testing.T, p *platformtest.Platform) net.Conn {
	t.Helper()
	conn, err := p.HTTP.Transport.(*http.Transport).DialContext(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
