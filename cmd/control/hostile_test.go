package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// victim is a control plane that strangers and clients attack.
type victim struct {
	*testing.T
	*server
	token string
	tls   bool
}

func startVictim(t *testing.T, args ...string) *victim {
	t.Helper()
	return victimOf(t, start(t, filepath.Join(t.TempDir(), "data"), append([]string{"--executor", "none"}, args...)...))
}

func victimOf(t *testing.T, s *server) *victim {
	t.Helper()
	secret, err := os.ReadFile(filepath.Join(s.data, "token"))
	if err != nil {
		t.Fatal(err)
	}
	return &victim{t, s, strings.TrimSpace(string(secret)), strings.HasPrefix(s.here.HTTP, "https")}
}

func (v *victim) web() string { return v.here.HTTP[strings.LastIndex(v.here.HTTP, "/")+1:] }

// dial connects to an address; with TLS as a client of HTTP/2.
func (v *victim) dial(addr string) net.Conn {
	v.Helper()
	conn, err := new(net.Dialer).DialContext(v.Context(), "tcp", addr)
	if err != nil {
		v.Fatal(err)
	}
	if v.tls {
		//nolint:gosec // of a test
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	}
	v.Cleanup(func() { _ = conn.Close() })
	return conn
}

// ask sends lines of a request over HTTP/1.1, and an empty one, and returns the whole answer's head, and its body.
func (v *victim) ask(body string, lines ...string) (status int, head http.Header, answer string) {
	v.Helper()
	conn := v.dial(v.web())
	defer conn.Close() //nolint:errcheck // of a test
	request := strings.Join(lines, "\r\n") + "\r\n\r\n" + body
	go func() { _, _ = io.WriteString(conn, request) }() // it may be refused before it is read
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		v.Fatalf("%.200q: %v", request, err)
	}
	b, _ := io.ReadAll(res.Body) // of a socket there is no end
	_ = res.Body.Close()
	return res.StatusCode, res.Header, string(b)
}

// works fails the test unless a client's request is answered now.
func (v *victim) works() {
	v.Helper()
	status := 0
	if v.tls {
		client := &http.Client{Transport: &http2.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // a test
		}}
		defer client.CloseIdleConnections()
		r, err := http.NewRequestWithContext(v.Context(), http.MethodGet, v.here.HTTP+"/v1/agents", nil)
		if err != nil {
			v.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+v.token)
		res, err := client.Do(r)
		if err != nil {
			v.Fatal(err)
		}
		_ = res.Body.Close()
		status = res.StatusCode
	} else {
		status, _, _ = v.ask("", "GET /v1/agents HTTP/1.1", "Host: localhost", "Authorization: Bearer "+v.token,
			"Connection: close")
	}
	if status != http.StatusOK {
		v.Errorf("a client's request meanwhile: %d", status)
	}
	if _, stderr, err := invoke(v.T, "agents", "list", "--data", v.data); err != nil {
		v.Errorf("a client's call meanwhile: %v, %s", err, stderr)
	}
}

// live is the memory that is in use.
func live() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// surfaces are one request of each kind, without host, origin and token.
var surfaces = map[string][]string{
	"page":         {"GET /v1/docs HTTP/1.1"},
	"probe":        {"GET /healthz HTTP/1.1"},
	"readiness":    {"GET /readyz HTTP/1.1"},
	"api":          {"GET /v1/agents HTTP/1.1"},
	"events":       {"GET /v1/sessions/x/events HTTP/1.1", "Accept: text/event-stream"},
	"prompt":       {"POST /agents/shell/i HTTP/1.1", "Content-Type: application/json"},
	"call socket":  append([]string{"GET /v1/watch HTTP/1.1"}, upgradeHeaders...),
	"agent socket": append([]string{"GET /agents/shell/i HTTP/1.1"}, upgradeHeaders...),
}

var upgradeHeaders = []string{
	"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
	"Sec-WebSocket-Key: " + base64.StdEncoding.EncodeToString(make([]byte, 16)),
}

// A page of another origin, and one whose name was made to point here, get nothing on any surface, with a token too. A
// token in a URL is refused on all of them.
func TestForeignPages(t *testing.T) {
	v := startVictim(t)
	for name, lines := range surfaces {
		for _, x := range []struct {
			what   string
			url    string
			lines  []string
			status int
		}{
			{"rebinding", "", []string{"Host: evil.example:3000"}, 403},
			{"an absolute URL", "http://evil.example", []string{"Host: localhost"}, 403},
			{"an origin", "", []string{"Host: localhost", "Origin: https://evil.example"}, 403},
			{"a null origin", "", []string{"Host: localhost", "Origin: null"}, 403},
			{"a prefix of the origin", "", []string{"Host: localhost", "Origin: http://localhost.evil.example"}, 403},
			{"a user in the origin", "", []string{"Host: localhost", "Origin: http://localhost@evil.example"}, 403},
			{"a token in the URL", "?access_token=" + v.token, []string{"Host: localhost"}, 400},
			{"an encoded token", "?t=%70" + v.token[1:], []string{"Host: localhost"}, 400},
		} {
			first := lines[0]
			if strings.HasPrefix(x.url, "?") {
				first = strings.Replace(first, " HTTP/1.1", x.url+" HTTP/1.1", 1)
			} else {
				first = strings.Replace(first, " /", " "+x.url+"/", 1)
			}
			status, head, body := v.ask("", slices.Concat([]string{first}, x.lines, lines[1:],
				[]string{"Authorization: Bearer " + v.token})...)
			if status != x.status || head.Get("Access-Control-Allow-Origin") != "" || strings.Contains(body, v.token) {
				t.Errorf("%s, %s: %d %v %s", name, x.what, status, head, body)
			}
		}
	}
}

// Paths lead nowhere but to names: nothing is cleaned, redirected or read.
func TestPathsLeadNowhere(t *testing.T) {
	v := startVictim(t)
	for _, path := range []string{
		"/../../etc/passwd", "/agents/../../etc/passwd", "/v1/../healthz", "//etc/passwd", "/v1//agents", "/v1/agents/",
		"/v1/agents/..%2f..%2fetc%2fpasswd", "/v1/agents/%2e%2e", "/v1/agents/%00", "/v1/agents/%c0%ae%c0%ae",
		"/v1/sessions/..%2f..%2f..%2fetc%2fpasswd/events", `/v1/agents/..\..\etc`, "/v1/agents/%ff",
		"/%2e%2e/v1/agents", "/v1/sessions?pageToken=%ff",
	} {
		status, head, body := v.ask("", "GET "+path+" HTTP/1.1", "Host: localhost", "Authorization: Bearer "+v.token,
			"Connection: close")
		if status != 400 && status != 404 || head.Get("Location") != "" || strings.Contains(body, "root:") {
			t.Errorf("%s: %d %v %s", path, status, head, body)
		}
	}
}

// What a client chooses never becomes a header of its own choice, nor a second answer.
func TestHeadersAreNotInjected(t *testing.T) {
	v := startVictim(t)
	const evil = "%0d%0aX-Evil:%20yes%0d%0a%0d%0aHTTP/1.1%20200%20OK"
	for name, lines := range map[string][]string{
		"an instance":  {"POST /agents/shell/a" + evil + " HTTP/1.1", "Content-Type: application/json"},
		"an agent":     {"POST /agents/x" + evil + "/i HTTP/1.1", "Content-Type: application/json"},
		"an id":        {"GET /v1/sessions/x" + evil + " HTTP/1.1"},
		"a path":       {"GET /v1/" + evil + " HTTP/1.1"},
		"a method":     {"PUT /v1/agents HTTP/1.1"},
		"a request id": {"GET /v1/agents HTTP/1.1", "X-Request-Id: a\rX-Evil: yes"},
		"a subprotocol": slices.Concat(
			[]string{"GET /v1/watch HTTP/1.1", "Sec-WebSocket-Protocol: a\rX-Evil: yes"}, upgradeHeaders),
	} {
		conn := v.dial(v.web())
		request := strings.Join(append(lines, "Host: localhost", "Authorization: Bearer "+v.token,
			"Content-Length: 16", "Connection: close"), "\r\n") + "\r\n\r\n" + `{"message":"hi"}`
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(conn)
		head, _, _ := bytes.Cut(b, []byte("\r\n\r\n"))
		if err != nil || bytes.Contains(head, []byte("X-Evil")) || bytes.Contains(b, []byte("\r\nHTTP/1.1 ")) {
			t.Errorf("%s: %v, %s", name, err, b)
		}
	}
}

// What is too large, too deep, compressed or said twice is refused before it costs anything.
func TestOversize(t *testing.T) {
	v := startVictim(t)
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := z.Write(make([]byte, 64<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	deep := strings.Repeat("[", 100_000)
	api, prompt := "POST /v1/agents/shell/instances/i:prompt HTTP/1.1", "POST /agents/shell/i HTTP/1.1"
	const kind, gzipped = "Content-Type: application/json", "Content-Encoding: gzip"
	length := func(n int) string { return fmt.Sprint("Content-Length: ", n) }
	get := "GET /v1/agents HTTP/1.1"
	before := live()
	for name, x := range map[string]struct {
		lines  []string
		body   string
		status int
	}{
		"headers":             {[]string{"GET /v1/agents HTTP/1.1", "X: " + strings.Repeat("x", 64<<10)}, "", 431},
		"many headers":        {append([]string{get}, slices.Repeat([]string{"X: y"}, 20_000)...), "", 431},
		"a URL":               {[]string{"GET /v1/agents?" + strings.Repeat("x", 64<<10) + " HTTP/1.1"}, "", 431},
		"a body, api":         {[]string{api, kind, "Content-Length: 99999999999"}, "x", 413},
		"a body, prompt":      {[]string{prompt, kind, "Content-Length: 99999999999"}, "x", 413},
		"a bomb, api":         {[]string{api, kind, gzipped, length(bomb.Len())}, bomb.String(), 415},
		"a bomb, prompt":      {[]string{prompt, kind, gzipped, length(bomb.Len())}, bomb.String(), 415},
		"depth, api":          {[]string{api, kind, length(len(deep) + 11)}, `{"message":` + deep, 400},
		"depth, unknown, api": {[]string{api, kind, length(len(deep) + 5)}, `{"a":` + deep, 400},
		"depth, prompt":       {[]string{prompt, kind, length(len(deep) + 5)}, `{"a":` + deep, 400},
		"a key twice, api":    {[]string{api, kind, "Content-Length: 29"}, `{"message":"a","message":"b"}`, 400},
		"two lengths":         {[]string{prompt, kind, "Content-Length: 2", "Content-Length: 3"}, "{}", 400},
		"length and chunks":   {[]string{prompt, kind, length(2), "Transfer-Encoding: chunked"}, "0\r\n\r\n", 400},
		"an unknown coding":   {[]string{prompt, kind, "Transfer-Encoding: gzip"}, "", 501},
	} {
		status, _, body := v.ask(x.body, slices.Concat(x.lines, []string{
			"Host: localhost", "Authorization: Bearer " + v.token, "Connection: close",
		})...)
		if status != x.status {
			t.Errorf("%s: %d, want %d: %.300s", name, status, x.status, body)
		}
	}
	if grown := live() - before; grown > 16<<20 {
		t.Errorf("%d bytes are left", grown)
	}
}

// Sockets take frames of bounded size, shallow messages, and no compression.
func TestHostileFrames(t *testing.T) {
	v := startVictim(t)
	masked := func(first byte, size uint64, text string) string {
		head := binary.BigEndian.AppendUint64([]byte{first, 0xff}, size)
		return string(head) + "\x00\x00\x00\x00" + text
	}
	deep := `{"id":"x","call":"listAgents","request":` + strings.Repeat("[", 100_000)
	for name, x := range map[string]struct {
		frame string
		code  int // of the close frame; 0 is none, and an answer
	}{
		"compressed":          {masked(0xc1, 2, "{}"), 1002},
		"a reserved opcode":   {masked(0x83, 2, "{}"), 1002},
		"2^63 bytes":          {masked(0x81, 1<<63, ""), 1000},
		"more than a message": {masked(0x81, 1<<20+1, strings.Repeat(" ", 1<<20+1)), 1009},
		"depth":               {masked(0x81, uint64(len(deep)), deep), 0},
	} {
		for _, path := range []string{"/v1/watch", "/agents/shell/i"} {
			conn := v.dial(v.web())
			in := bufio.NewReader(conn)
			request := strings.Join(slices.Concat([]string{
				"GET " + path + " HTTP/1.1", "Host: localhost", "Authorization: Bearer " + v.token,
				"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
			}, upgradeHeaders), "\r\n") + "\r\n\r\n"
			if _, err := io.WriteString(conn, request); err != nil {
				t.Fatal(err)
			}
			res, err := http.ReadResponse(in, nil)
			if err != nil || res.StatusCode != 101 || res.Header.Get("Sec-WebSocket-Extensions") != "" {
				t.Fatalf("%v, %v", res, err)
			}
			go func() { _, _ = io.WriteString(conn, x.frame) }()
			code := 0
			for code == 0 {
				var head [2]byte
				if _, err := io.ReadFull(in, head[:]); err != nil {
					code = -1
					break
				}
				size := int64(head[1])
				if size == 126 {
					b := make([]byte, 2)
					_, _ = io.ReadFull(in, b)
					size = int64(b[0])<<8 | int64(b[1])
				}
				text := make([]byte, size)
				if _, err := io.ReadFull(in, text); err != nil {
					t.Fatal(err)
				}
				if head[0] == 0x88 {
					code = int(text[0])<<8 | int(text[1])
				}
				if x.code == 0 && bytes.Contains(text, []byte("error")) {
					break
				}
			}
			if code != x.code && !(code == -1 && x.code == 1002) {
				t.Errorf("%s, %s: %d, want %d", name, path, code, x.code)
			}
		}
	}
	v.works()
}

// Who sends the head of a request, or of a connection, byte by byte is left, on both listeners, with TLS and without.
func TestSlowStrangers(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t, t.TempDir())
	for name, args := range map[string][]string{"plain": nil, "TLS": {"--tls-cert", cert, "--tls-key", key}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := startVictim(t, args...)
			for what, x := range map[string]struct{ addr, begin string }{
				"http": {v.web(), "GET / HTTP/1.1\r\nHost: loc"}, "grpc": {v.here.GRPC, "PRI * HT"},
				"a silent one": {v.web(), ""}, "a silent call": {v.here.GRPC, ""},
			} {
				t.Run(what, func(t *testing.T) {
					t.Parallel()
					conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", x.addr)
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close() //nolint:errcheck // of a test
					if _, err := io.WriteString(conn, x.begin); err != nil {
						t.Fatal(err)
					}
					if err := conn.SetReadDeadline(time.Now().Add(45 * time.Second)); err != nil {
						t.Fatal(err)
					}
					_, err = io.Copy(io.Discard, conn)
					if errors.Is(err, os.ErrDeadlineExceeded) {
						t.Error("it was kept")
					}
				})
			}
		})
	}
}

// flood speaks HTTP/2 as it likes.
type flood struct {
	*http2.Framer
	out   *bufio.Writer
	table bytes.Buffer
	enc   *hpack.Encoder
	next  uint32
}

func (v *victim) flood(addr string) (*flood, net.Conn) {
	v.Helper()
	conn := v.dial(addr)
	f := &flood{out: bufio.NewWriterSize(conn, 64<<10), next: 1}
	f.Framer = http2.NewFramer(f.out, nil)
	f.enc = hpack.NewEncoder(&f.table)
	if _, err := io.WriteString(f.out, http2.ClientPreface); err != nil {
		v.Fatal(err)
	}
	if err := errors.Join(f.WriteSettings(), f.out.Flush()); err != nil {
		v.Fatal(err)
	}
	return f, conn
}

// head begins a request.
func (f *flood) head(token string) []byte { return f.headOf("/pawl.v1.AgentService/ListAgents", token) }

func (f *flood) headOf(method, token string) []byte {
	f.table.Reset()
	for _, h := range [][2]string{
		{":method", "POST"},
		{":scheme", "http"},
		{":authority", "localhost"},
		{":path", method},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
		{"authorization", "Bearer " + token},
	} {
		_ = f.enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}) // into memory
	}
	return f.table.Bytes()
}

// floods are what one connection sends again and again.
var floods = map[string]func(f *flood, token string) error{
	"settings": func(f *flood, _ string) error { return f.WriteSettings() },
	"pings":    func(f *flood, _ string) error { return f.WritePing(false, [8]byte{}) },
	"rapid resets": func(f *flood, token string) error {
		err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: f.next, BlockFragment: f.head(token), EndHeaders: true})
		err = errors.Join(err, f.WriteRSTStream(f.next, http2.ErrCodeCancel))
		f.next += 2
		return err
	},
	"continuations": func(f *flood, token string) error {
		if f.next == 1 {
			f.next += 2
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.head(token)})
		}
		return f.WriteContinuation(1, false, bytes.Repeat([]byte{0x40, 1, 'x', 1, 'y'}, 1000))
	},
	"empty data": func(f *flood, token string) error {
		if f.next == 1 {
			f.next += 2
			return f.WriteHeaders(http2.HeadersFrameParam{
				StreamID: 1, BlockFragment: f.head(token), EndHeaders: true,
			})
		}
		return f.WriteData(1, false, nil)
	},
}

// A flood of frames of HTTP/2 costs bounded memory and slows nobody, on both listeners, with a token and without. Its
// sender reads nothing.
func TestFloods(t *testing.T) {
	cert, key := certificate(t, t.TempDir())
	v := startVictim(t, "--tls-cert", cert, "--tls-key", key)
	const frames, most = 50_000, 64 << 20
	for name, next := range floods {
		for what, addr := range map[string]string{"http": v.web(), "grpc": v.here.GRPC} {
			for who, token := range map[string]string{"a client": v.token, "a stranger": "x"} {
				before := live()
				f, conn := v.flood(addr)
				_ = conn.SetWriteDeadline(time.Now().Add(3 * time.Second)) // it is held back, or left
				var err error
				for i := 0; i < frames && err == nil; i++ {
					if err = next(f, token); err == nil && i%100 == 0 {
						err = f.out.Flush()
					}
				}
				v.works()
				if grown := live() - before; grown > most {
					t.Errorf("%s to %s by %s: %d bytes", name, what, who, grown)
				}
				_ = conn.Close()
			}
		}
	}
}

// another is a token of another client.
func (v *victim) another() string {
	v.Helper()
	_, _, made := v.ask(`{"client":{}}`, "POST /v1/tokens HTTP/1.1", "Host: localhost", "Connection: close",
		"Content-Type: application/json", "Content-Length: 13", "Authorization: Bearer "+v.token)
	secret := regexp.MustCompile(`"secret":"([^"]+)"`).FindStringSubmatch(made)
	if secret == nil {
		v.Fatal(made)
	}
	return secret[1]
}

// However many requests with large bodies a client begins, they hold a bounded amount of memory. Whoever has another
// token does not notice.
func TestBodiesUnderWay(t *testing.T) {
	v := startVictim(t)
	other := v.another()
	const n, piece, most = 300, 1 << 20, 256 << 20
	begun := `{"message":"` + strings.Repeat("x", piece)
	for name, x := range map[string]struct{ head, body string }{
		"which say how long they are": {"Content-Length: 33000000", begun},
		"which do not":                {"Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n", len(begun), begun)},
	} {
		for _, path := range []string{"/v1/agents/shell/instances/i:dispatch", "/agents/shell/i"} {
			before, refused := live(), make(chan bool, n)
			var conns []net.Conn
			for range n {
				conn := v.dial(v.web())
				conns = append(conns, conn)
				if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil { // less than a body may take
					t.Fatal(err)
				}
				go func() {
					_, _ = io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: localhost\r\nContent-Type: "+
						"application/json\r\nAuthorization: Bearer "+v.token+"\r\n"+x.head+"\r\n\r\n"+x.body)
					res, err := http.ReadResponse(bufio.NewReader(conn), nil)
					if err != nil {
						refused <- false // it is read yet
						return
					}
					_ = res.Body.Close()
					refused <- res.StatusCode == http.StatusTooManyRequests && res.Header.Get("Retry-After") != ""
				}()
			}
			for range n - 64 { // a piece of each of the others is held
				if !<-refused {
					t.Errorf("bodies %s, %s: another answer than that there are too many, or none", name, path)
					break
				}
			}
			if grown := live() - before; grown > most {
				t.Errorf("bodies %s, %s: %d bytes are held", name, path, grown)
			}
			status, _, body := v.ask(`{"message":"say: hi"}`, "POST /v1/agents/shell/instances/j:dispatch HTTP/1.1",
				"Host: localhost", "Content-Type: application/json", "Content-Length: 21", "Connection: close",
				"Authorization: Bearer "+other)
			if status != http.StatusOK {
				t.Errorf("bodies %s, %s: another client hears %d %.300s", name, path, status, body)
			}
			for _, conn := range conns {
				_ = conn.Close()
			}
		}
	}
}
