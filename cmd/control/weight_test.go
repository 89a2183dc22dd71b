package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/protobuf/proto"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	ticks "github.com/pawl-dev/pawl/internal/await"
)

// stacksWithin is shorter than control keeps a connection whose client answers no ping: what has not come by then does
// not come any more.
const stacksWithin = 45 * time.Second

// stacks awaits that as many goroutines as want have a function on their stacks.
func stacks(t *testing.T, function string, want int) {
	t.Helper()
	var all bytes.Buffer
	began := time.Now()
	for range ticks.Ticks(t.Context(), 50*time.Millisecond) {
		all.Reset()
		if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
			t.Fatal(err)
		}
		got := 0
		for alike := range strings.SplitSeq(all.String(), "\n\n") { // each begins with how many there are
			if strings.Contains(alike, function+"+0x") {
				n, _, _ := strings.Cut(alike[strings.LastIndex(alike[:strings.Index(alike, " @ ")], "\n")+1:], " ")
				one, err := strconv.Atoi(n)
				if err != nil {
					t.Fatal(err)
				}
				got += one
			}
		}
		if got == want {
			return
		}
		if time.Since(began) > stacksWithin {
			t.Fatalf("%d goroutines in %s, want %d", got, function, want)
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

// watchers are those of one session that read nothing of it.
type watchers struct {
	*victim
	id   string
	open int
}

// watchersOf makes a session with what a command prints.
func watchersOf(v *victim, command string) *watchers {
	body, err := json.Marshal(map[string]string{"message": command})
	if err != nil {
		v.Fatal(err)
	}
	status, _, lines := v.ask(string(body), "POST /v1/agents/shell/instances/loud:prompt HTTP/1.1", "Host: localhost",
		"Content-Type: application/json", fmt.Sprint("Content-Length: ", len(body)), "Authorization: Bearer "+v.token)
	id := regexp.MustCompile(`"sessionId":"([^"]+)"`).FindStringSubmatch(lines)
	if status != http.StatusOK || id == nil || !strings.Contains(lines, "OUTCOME_COMPLETED") {
		v.Fatalf("%d %.300q", status, lines)
	}
	return &watchers{victim: v, id: id[1]}
}

// more opens n, each on a connection of its own, and waits until they have got what they get.
func (w *watchers) more(n int) {
	w.Helper()
	request, err := proto.Marshal(&pawlv1.WatchSessionRequest{SessionId: w.id})
	if err != nil {
		w.Fatal(err)
	}
	message := append([]byte{0, 0, 0, 0, byte(len(request))}, request...)
	for range n {
		f, _ := w.flood(w.here.GRPC)
		head := f.headOf("/pawl.v1.SessionService/WatchSession", w.token)
		if err := errors.Join(
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head, EndHeaders: true}),
			f.WriteData(1, true, message), f.out.Flush(),
		); err != nil {
			w.Fatal(err)
		}
	}
	w.open += n
	stacks(w.T, "transport.(*writeQuota).get", w.open)
}

// A watcher that reads nothing of much costs a page and what gRPC queues for it, however large its events are. Each
// piece of output is written at once and by a command of its own, so that it is one event: what a watcher holds depends
// on where the bounds of pages and messages fall.
func TestWeightOfSilentWatchers(t *testing.T) {
	for name, command := range map[string]string{
		"large events":  "yes some words | head -c 1000000",
		"medium events": pieces(17_000, 17_000, 17_000),
		"mixed events":  pieces(100, 31<<10, 31<<10),
	} {
		t.Run(name, func(t *testing.T) {
			w := watchersOf(victimOf(t, start(t, t.TempDir())), command)
			w.more(5)
			const n, most = 50, 256 << 10
			before := inUse()
			w.more(n)
			got := (inUse() - before) / n
			if got > most {
				t.Errorf("%d bytes for each watcher, want %d at most", got, most)
			}
			t.Logf("%d bytes for each watcher", got)
		})
	}
}

// pieces are commands that print so many bytes each, four times.
func pieces(sizes ...int) string {
	var lines []string
	for range 4 {
		for _, n := range sizes {
			lines = append(lines, fmt.Sprintf(
				"head -c %d /dev/zero | tr '\\0' x | dd bs=%[1]d iflag=fullblock status=none", n))
		}
	}
	return strings.Join(lines, "\n")
}
