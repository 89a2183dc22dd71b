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

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/internal/rpc"
)

// A client that goes silent without hanging up costs a connection for minutes, and not for ever.
func TestSilentClientsAreLeft(t *testing.T) {
	const prompt = "POST /agents/shell/i HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: " +
		"application/json\r\nContent-Length: %d\r\n\r\n%s"
	const message = `{"message":"say: hi"}`
	for name, c := range map[string]struct {
		sends string
		reads bool   // what comes at once
		says  string // of what comes in the end
	}{
		"it has its answer":      {"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", true, "ok"},
		"its request has no end": {"GET /healthz HTTP/1.1\r\nHost", true, "400 Bad Request"},
		"its body is for nobody": {fmt.Sprintf(prompt, "nobody", 100, `{"message":`), true, "unauthenticated"},
		"its body has no end": {
			fmt.Sprintf(prompt, "TOKEN", 100, `{"message":`), false,
			"did not arrive within 2m0s",
		},
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

// Who reads nothing of a session does not slow its work, be it that it watches or that it prompted.
func TestReadersThatTakeNothingSlowNobody(t *testing.T) {
	large := strings.TrimSuffix(strings.Repeat("bytes 1000000;sleep 1s;", 10), ";")
	type start func(w *world) (id string, receive func() error)
	work := func(t *testing.T, begin start) (took time.Duration) {
		within(t, func(w *world) {
			w.wait(w.a, w.submit("say: hello"), "hello")
			id, receive := begin(w)
			got := w.wait(w.a, id, "0")
			took = got.GetSettledAt().AsTime().Sub(got.GetAcceptedAt().AsTime())
			if receive == nil {
				return
			}
			w.sleep(3 * time.Minute)
			var err error
			for err == nil {
				err = receive()
			}
			if rpc.Reason(err) != "READER_STALLED" {
				w.Errorf("the reader was not behind: it ends with %v", err)
			}
		})
		return took
	}
	alone := work(t, func(w *world) (string, func() error) { return w.submit(large), nil })
	for name, begin := range map[string]start{
		"watches": func(w *world) (string, func() error) {
			watch, err := pawlv1.NewSessionServiceClient(w.a.GRPC).WatchSession(w.Context(),
				&pawlv1.WatchSessionRequest{SessionId: w.sessionID("shell")})
			if err != nil {
				w.Fatal(err)
			}
			return w.submit(large), func() error { _, err := watch.Recv(); return err }
		},
		"prompted": func(w *world) (string, func() error) {
			prompt, err := pawlv1.NewSubmissionServiceClient(w.a.GRPC).Prompt(w.Context(),
				&pawlv1.PromptRequest{Key: key("shell"), Message: large})
			if err != nil {
				w.Fatal(err)
			}
			first, err := prompt.Recv()
			if err != nil {
				w.Fatal(err)
			}
			return first.GetSubmission().GetSubmissionId(), func() error { _, err := prompt.Recv(); return err }
		},
	} {
		t.Run(name, func(t *testing.T) {
			if took := work(t, begin); took != alone || took < 10*time.Second {
				t.Errorf("the work took %s, with nobody there %s", took, alone)
			}
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
			if _, err := fmt.Fprintf(conn, "POST /agents/shell/i HTTP/1.1\r\nHost: localhost\r\nAuthorization: "+
				"Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
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
