package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/protobuf/proto"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	ticks "github.com/pawl-dev/pawl/internal/await"
)

// stacks awaits that as many goroutines as want have a function on their stacks.
func stacks(t *testing.T, function string, want int) {
	t.Helper()
	var all bytes.Buffer
	for range ticks.Ticks(t.Context(), 20*time.Millisecond) {
		all.Reset()
		if err := pprof.Lookup("goroutine").WriteTo(&all, 2); err != nil {
			t.Fatal(err)
		}
		if strings.Count(all.String(), function+"(") == want {
			return
		}
	}
}

// inUse is the bytes of heap and stacks that are in use.
func inUse() int64 {
	for range 4 {
		runtime.GC() // what pools keep goes with the second one, and stacks are halved by each
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// An idle connection costs a few kilobytes: half of what the HTTP server alone holds for one.
func TestWeightOfIdleConnections(t *testing.T) {
	v := startVictim(t)
	request := fmt.Sprintf("GET /v1/nothing HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", v.token)
	answer := make([]byte, 4096)
	var conns []net.Conn
	ask := func(conn net.Conn) {
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(answer); err != nil || !bytes.HasPrefix(answer[:n], []byte("HTTP/1.1 404 ")) {
			t.Fatalf("%q, %v", answer[:n], err)
		}
	}
	open := func(n int) {
		for range n {
			conn := v.dial(v.web())
			ask(conn)
			conns = append(conns, conn)
		}
		stacks(t, "net/http.(*conn).serve", 0)
	}
	open(10)
	const n, most = 200, 10 << 10
	before := inUse()
	open(n)
	if got := (inUse() - before) / n; got > most {
		t.Errorf("%d bytes for each connection, its client's end included; want %d at most", got, most)
	}
	for _, conn := range conns {
		ask(conn)
	}
}

// A watcher that reads nothing of much costs a page and what gRPC queues for it.
func TestWeightOfSilentWatchers(t *testing.T) {
	v := victimOf(t, start(t, t.TempDir()))
	status, _, lines := v.ask(`{"message":"yes some words | head -c 3000000"}`,
		"POST /v1/agents/shell/instances/loud:prompt HTTP/1.1", "Host: localhost", "Content-Type: application/json",
		"Content-Length: 46", "Authorization: Bearer "+v.token)
	id := regexp.MustCompile(`"sessionId":"([^"]+)"`).FindStringSubmatch(lines)
	if status != http.StatusOK || id == nil {
		t.Fatalf("%d %.300q", status, lines)
	}
	request, err := proto.Marshal(&pawlv1.WatchSessionRequest{SessionId: id[1]})
	if err != nil {
		t.Fatal(err)
	}
	message := append([]byte{0, 0, 0, 0, byte(len(request))}, request...)
	watch := func(n int) {
		for range n {
			f, _ := v.flood(v.here.GRPC)
			head := f.headOf("/pawl.v1.SessionService/WatchSession", v.token)
			if err := errors.Join(
				f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head, EndHeaders: true}),
				f.WriteData(1, true, message), f.out.Flush(),
			); err != nil {
				t.Fatal(err)
			}
		}
	}
	const stalled = "transport.(*writeQuota).get"
	watch(5)
	stacks(t, stalled, 5)
	const n, most = 100, 256 << 10
	before := inUse()
	watch(n)
	stacks(t, stalled, 5+n)
	if got := (inUse() - before) / n; got > most {
		t.Errorf("%d bytes for each watcher, want %d at most", got, most)
	}
}
