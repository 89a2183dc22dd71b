package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/cli"
)

// workspace is a session with files, over HTTP.
type workspace struct {
	t          *testing.T
	url, token string
	root       string
}

func startWorkspace(t *testing.T) *workspace {
	t.Helper()
	dir := t.TempDir()
	data, root := filepath.Join(dir, "data"), filepath.Join(dir, "root")
	if err := os.MkdirAll(root, 0o700); err != nil {
		t.Fatal(err)
	}
	s := start(t, data, "--root", root)
	token, err := os.ReadFile(filepath.Join(data, "token"))
	if err != nil {
		t.Fatal(err)
	}
	w := &workspace{t: t, url: "http://" + s.here.HTTP, token: strings.TrimSpace(string(token)), root: root}
	if strings.HasPrefix(s.here.HTTP, "http") {
		w.url = s.here.HTTP
	}
	answer(t, data, "shell", `tool bash: {"command": "true"}`) // and so its executor is connected
	_, body := w.do("GET", "/v1/sessions", nil)
	var page struct{ Sessions []struct{ SessionID string } }
	if err := json.Unmarshal(body, &page); err != nil || len(page.Sessions) != 1 {
		t.Fatalf("%v: %s", err, body)
	}
	w.url += "/v1/sessions/" + page.Sessions[0].SessionID
	return w
}

// do makes a request below the session's path, or anywhere.
func (w *workspace) do(method, path string, body io.Reader, headers ...string) (*http.Response, []byte) {
	w.t.Helper()
	res, out, err := w.try(method, path, body, headers...)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return res, out
}

func (w *workspace) try(method, path string, body io.Reader, headers ...string) (*http.Response, []byte, error) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+w.token)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	return res, out, err
}

// want makes a request whose answer has a status, and returns the answer.
func (w *workspace) want(status int, method, path, body string, headers ...string) (*http.Response, string) {
	w.t.Helper()
	res, out := w.do(method, path, strings.NewReader(body), headers...)
	if res.StatusCode != status {
		w.t.Errorf("%s %s %q: %s %.300s, want %d", method, path, headers, res.Status, out, status)
	}
	if status >= 400 && method != http.MethodHead && !strings.Contains(string(out), `{"error":{"reason":"`) {
		w.t.Errorf("%s %s: an error without its envelope: %s", method, path, out)
	}
	return res, string(out)
}

// limited is the token of a client that may make one request in a while.
func (w *workspace) limited() string {
	w.t.Helper()
	base, _, _ := strings.Cut(w.url, "/v1/")
	root := *w
	root.url = base
	_, body := root.want(200, "POST", "/v1/tokens",
		`{"client":{"role":"ROLE_USER","rate":{"requestsPerSecond":0.001,"burst":1}}}`,
		"Content-Type: application/json")
	var made struct{ Secret string }
	if err := json.Unmarshal([]byte(body), &made); err != nil || made.Secret == "" {
		w.t.Fatalf("%v: %s", err, body)
	}
	return made.Secret
}

// tidy waits until nothing is left of writes that were broken off: their clients do not wait for that.
func (w *workspace) tidy(dir string) {
	w.t.Helper()
	for began := time.Now(); ; runtime.Gosched() {
		left, err := filepath.Glob(filepath.Join(dir, ".pawl-*"))
		if err != nil || time.Since(began) > time.Minute {
			w.t.Fatalf("%v is left, %v", left, err)
		}
		if len(left) == 0 {
			return
		}
	}
}

func tagOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func TestFilesOverHTTP(t *testing.T) {
	w := startWorkspace(t)
	large := strings.Repeat("0123456789", 100_000)
	t.Run("write and read", func(t *testing.T) {
		res, body := w.want(201, "PUT", "/files/d/a.txt", "hello")
		if res.Header.Get("ETag") != tagOf("hello") || !strings.Contains(body, `"size":5`) {
			t.Errorf("%v %s", res.Header, body)
		}
		w.want(200, "PUT", "/files/d%2Fa.txt", "Hello")
		res, body = w.want(200, "GET", "/files/d/a.txt", "")
		if body != "Hello" || res.Header.Get("ETag") != tagOf("Hello") || res.Header.Get("Content-Length") != "5" ||
			res.Header.Get("Content-Type") != "text/plain; charset=utf-8" ||
			res.Header.Get("X-Content-Type-Options") != "nosniff" ||
			res.Header.Get("Content-Disposition") != "inline; filename=a.txt" {
			t.Errorf("%v %s", res.Header, body)
		}
		res, body = w.want(200, "HEAD", "/files/d/a.txt", "")
		if body != "" || res.Header.Get("Content-Length") != "5" || res.Header.Get("ETag") != tagOf("Hello") {
			t.Errorf("%v %s", res.Header, body)
		}
		w.want(201, "PUT", "/files/large", large)
		res, body = w.want(200, "GET", "/files/large", "")
		if body != large || res.Header.Get("ETag") != "" || res.Header.Get("Content-Length") != "1000000" {
			t.Errorf("%v %d", res.Header, len(body))
		}
		// What could run in a browser is saved, whatever its name is.
		w.want(201, "PUT", "/files/x%22%0a%C3%A9.txt", "<html><script>alert(1)</script>")
		res, _ = w.want(200, "GET", "/files/x%22%0a%C3%A9.txt", "")
		if d := res.Header.Get("Content-Disposition"); !strings.HasPrefix(d, "attachment; filename*=utf-8''x%22%0A") {
			t.Error(d)
		}
		w.want(201, "PUT", "/files/"+w.root+"/abs", "absolute")
		w.want(200, "GET", "/files/d/..%2fabs", "")
		if got, err := os.ReadFile(filepath.Join(w.root, "abs")); string(got) != "absolute" {
			t.Error(got, err)
		}
	})
	t.Run("ranges", func(t *testing.T) {
		for header, want := range map[string]string{
			"bytes=0-0": "0 0-0", "bytes=3-5": "345 3-5", "bytes=999998-": "89 999998-999999",
			"bytes=-3": "789 999997-999999", "bytes=999999-2000000": "9 999999-999999",
			"bytes=999999-9223372036854775807": "9 999999-999999",
			"bytes=0-9223372036854775807":      large + " 0-999999",
		} {
			res, body := w.want(206, "GET", "/files/large", "", "Range: "+header)
			if got := body + " " + strings.TrimSuffix(strings.TrimPrefix(res.Header.Get("Content-Range"), "bytes "),
				"/1000000"); got != want || res.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("%s: %q, want %q; %v", header, got, want, res.Header)
			}
		}
		for _, header := range []string{"bytes=1000000-", "bytes=-0"} {
			res, _ := w.want(416, "GET", "/files/large", "", "Range: "+header)
			if got := res.Header.Get("Content-Range"); got != "bytes */1000000" {
				t.Errorf("%s: %s", header, got)
			}
		}
		for _, header := range []string{"bytes=0-1,3-4", "bytes=5-3", "lines=0-1", "bytes=x-", "bytes=-"} {
			if _, body := w.want(200, "GET", "/files/large", "", "Range: "+header); body != large {
				t.Errorf("%s: %d bytes", header, len(body))
			}
		}
		if _, body := w.want(206, "GET", "/files/d/a.txt", "", "Range: bytes=1-2",
			"If-Range: "+tagOf("Hello")); body != "el" {
			t.Error(body)
		}
		for _, path := range []string{"/files/d/a.txt", "/files/large"} {
			w.want(200, "GET", path, "", "Range: bytes=1-2", "If-Range: "+tagOf("old"))
		}
	})
	t.Run("conditions", func(t *testing.T) {
		w.want(304, "GET", "/files/d/a.txt", "", "If-None-Match: W/"+tagOf("Hello"))
		w.want(200, "GET", "/files/d/a.txt", "", "If-None-Match: "+tagOf("old"))
		w.want(412, "GET", "/files/d/a.txt", "", "If-Match: "+tagOf("old"))
		w.want(412, "PUT", "/files/d/a.txt", "new", "If-None-Match: *")
		w.want(412, "PUT", "/files/d/a.txt", "new", "If-Match: "+tagOf("old"))
		w.want(412, "PUT", "/files/d/a.txt", "new", "If-Match: W/"+tagOf("Hello"))
		w.want(412, "PUT", "/files/d/a.txt", "new", "If-None-Match: "+tagOf("Hello"))
		w.want(412, "PUT", "/files/d/a.txt", "new", `If-Match: "one,*,two"`) // an ETag, which no file here has
		w.want(412, "PUT", "/files/missing", "new", "If-Match: *")
		w.want(412, "PUT", "/files/large", large, "If-Match: "+tagOf("old"))
		w.want(412, "DELETE", "/files/d/a.txt", "", "If-Match: "+tagOf("old"))
		w.want(412, "DELETE", "/files/d", "", "If-Match: "+tagOf("old"))
		if _, body := w.want(200, "GET", "/files/d/a.txt", ""); body != "Hello" {
			t.Errorf("a condition that does not hold changed it to %q", body)
		}
		w.want(200, "PUT", "/files/d/a.txt", "new", "If-Match: "+tagOf("old")+", "+tagOf("Hello"))
		w.want(201, "PUT", "/files/d/b.txt", "b", "If-None-Match: *")
		w.want(204, "DELETE", "/files/d/b.txt", "", "If-Match: "+tagOf("b"))
		w.want(200, "PUT", "/files/large", large, "If-Match: "+tagOf(large))
	})
	t.Run("rates", func(t *testing.T) {
		for _, c := range []struct {
			path, header string
			status       int
		}{
			{"/files/d/a.txt", "Range: bytes=1-2", 206},
			{"/files/large", "If-Range: " + tagOf("old"), 200},
			{"/files/d", "Accept: */*", 200},
		} {
			one := *w
			one.token = w.limited()
			one.want(c.status, "GET", c.path, "", "Range: bytes=0-0", c.header)
			one.want(429, "GET", c.path, "", c.header)
		}
	})
	t.Run("failures", func(t *testing.T) {
		sum := base64.StdEncoding.EncodeToString(make([]byte, 32))
		w.want(404, "GET", "/files/missing", "")
		w.want(404, "DELETE", "/files/missing", "")
		w.want(409, "PUT", "/files/d", "a directory")
		w.want(409, "GET", "/files/d/a.txt/x", "")
		w.want(409, "DELETE", "/files/d", "")
		w.want(400, "GET", "/files/%ff", "")
		w.want(400, "GET", "/files/a%00b", "")
		w.want(400, "GET", "/files/a?achive=tar", "")
		w.want(400, "GET", "/files/a?token=pawl_x", "")
		w.want(400, "PUT", "/files/d/c", "x", "Content-Range: bytes 0-0/2")
		w.want(400, "PUT", "/files/d/c", "x", "Repr-Digest: sha-256=:"+sum+":")
		w.want(415, "PUT", "/files/d/c", "x", "Content-Encoding: gzip")
		w.want(404, "GET", "/files/d/c", "")
		res, _ := w.want(405, "POST", "/files/d/a.txt", "")
		if got := res.Header.Get("Allow"); got != "DELETE, GET, HEAD, PUT" {
			t.Error(got)
		}
		here := w.url
		w.url = here[:strings.LastIndex(here, "/")+1] + "nope"
		w.want(404, "GET", "/files/a", "")
		w.url = here
		// A body that breaks off replaces nothing.
		body := io.MultiReader(strings.NewReader("half"), broken{})
		if _, _, err := w.try("PUT", "/files/d/a.txt", body); err == nil {
			t.Error("a body that broke off was answered")
		}
		w.tidy(filepath.Join(w.root, "d"))
		if _, body := w.want(200, "GET", "/files/d/a.txt", ""); body != "new" {
			t.Errorf("half a body was written: %q", body)
		}
	})
	t.Run("directories", func(t *testing.T) {
		if err := os.WriteFile(filepath.Join(w.root, "d", "b\xff\"é"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/files/d", "/files/d/"} {
			res, body := w.want(200, "GET", path, "")
			if want := `{"entries":[{"name":"a.txt"},{"name":"b\\xff\"é","raw":"Yv8iw6k="}]}` + "\n"; body != want ||
				res.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %v", body, res.Header)
			}
		}
		if _, body := w.want(200, "GET", "/files", ""); !strings.Contains(body, `{"name":"large"}`) {
			t.Error(body)
		}
	})
	t.Run("verbs", func(t *testing.T) {
		w.want(200, "POST", "/files:mkdir", `{"path":"m/n","recursive":true}`, "Content-Type: application/json")
		if _, body := w.want(200, "GET", "/files:stat?path=m", ""); !strings.Contains(body, `"isDir":true`) {
			t.Error(body)
		}
		if _, body := w.want(200, "GET", "/files:exists?path=m/n", ""); !strings.Contains(body, `"exists":true`) {
			t.Error(body)
		}
		if _, body := w.want(200, "GET", "/files:list?path=m", ""); body != `{"names":["bg=="]}`+"\n" {
			t.Error(body)
		}
		_, body := w.want(200, "GET", "/files:list?path=m", "", "Accept: text/event-stream")
		if want := "event: message\ndata: {\"names\":[\"bg==\"]}\n\n"; body != want {
			t.Errorf("%q", body)
		}
		w.want(409, "POST", "/files:remove", `{"path":"m"}`, "Content-Type: application/json")
		w.want(204, "DELETE", "/files/m?recursive=true", "")
	})
	t.Run("commands", func(t *testing.T) {
		json := "Content-Type: application/json"
		_, body := w.want(200, "POST", ":exec", `{"command":"cat; echo \"$A $PWD\" >&2; printf 'caf\\303'; exit 3",`+
			`"stdin":"aGk=","env":{"A":"é"},"cwd":"d"}`, json)
		want := []string{
			`{"started":{"executorId":"builtin"}}`, `{"stdout":{"text":"hicaf"}}`, `{"stdout":{"data":"ww=="}}`,
			fmt.Sprintf(`{"stderr":{"text":"é %s/d\n"}}`, w.root), `{"exited":{"exitCode":3}}`,
		}
		if got := strings.Split(strings.TrimSpace(body), "\n"); got[0] != want[0] || got[len(got)-1] != want[4] ||
			!slices.Contains(got, want[3]) || !slices.Contains(got, want[2]) {
			t.Errorf("%q", got)
		}
		_, body = w.want(200, "POST", ":exec", `{"command":"echo hi"}`, json, "Accept: text/event-stream")
		if !strings.Contains(body, "event: stdout\ndata: {\"text\":\"hi\\n\"}\n\nevent: exited\ndata: {}\n\n") {
			t.Errorf("%q", body)
		}
		if _, body = w.want(200, "POST", ":exec", `{"command":"sleep 60","timeout":"0.1s"}`,
			json); !strings.Contains(body, `"exitCode":124`) || !strings.Contains(body, `"timedOut":true`) {
			t.Error(body)
		}
		w.want(400, "POST", ":exec", `{"command":" "}`, json)
		// The executor may have taken the command before it finds that it cannot begin: then the last line says so.
		res, out := w.do("POST", ":exec", strings.NewReader(`{"command":"true","cwd":"nowhere"}`), json)
		if res.StatusCode != 404 && res.StatusCode != 200 || !strings.Contains(string(out), `"reason":"NOT_FOUND"`) {
			t.Errorf("%s %s", res.Status, out)
		}
	})
}

// broken is a body whose sender leaves in the middle.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("broken") }

// A command ends with the request that it belongs to, and every process of it.
func TestCommandsEndWithTheirClients(t *testing.T) {
	w := startWorkspace(t)
	r, err := http.NewRequestWithContext(t.Context(), "POST", w.url+":exec",
		strings.NewReader(`{"command":"echo $$; sleep 1000 & sleep 1000"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+w.token)
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	var said struct{ Stdout struct{ Text string } }
	for lines := json.NewDecoder(res.Body); said.Stdout.Text == ""; {
		if err := lines.Decode(&said); err != nil {
			t.Fatal(err)
		}
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	proc := filepath.Join("/proc", strings.TrimSpace(said.Stdout.Text))
	for began := time.Now(); ; runtime.Gosched() {
		if _, err := os.Stat(proc); errors.Is(err, os.ErrNotExist) {
			return
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("%s runs on", proc)
		}
	}
}

func archive(t *testing.T, entries ...*tar.Header) string {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range entries {
		content := []byte("content of " + h.Name)
		if h.Typeflag != tar.TypeReg {
			content = nil
		}
		h.Mode, h.Size = 0o755, int64(len(content))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// A directory goes down and up again as it was.
func TestArchivesOverHTTP(t *testing.T) {
	w := startWorkspace(t)
	up := archive(t,
		&tar.Header{Typeflag: tar.TypeDir, Name: "d/"}, &tar.Header{Typeflag: tar.TypeReg, Name: "d/run"},
		&tar.Header{Typeflag: tar.TypeSymlink, Name: "d/link", Linkname: "../top"},
		&tar.Header{Typeflag: tar.TypeReg, Name: "./top"})
	_, body := w.want(200, "PUT", "/files/tree?archive=tar", up)
	if !strings.Contains(body, fmt.Sprintf(`"size":%d`, len(up))) {
		t.Error(body)
	}
	res, down := w.want(200, "GET", "/files/tree?archive=tar", "")
	if res.Header.Get("Content-Type") != "application/x-tar" ||
		res.Header.Get("Content-Disposition") != "attachment; filename=tree.tar" {
		t.Error(res.Header)
	}
	var got []string
	for r := tar.NewReader(strings.NewReader(down)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %c %o %s%s", h.Name, h.Typeflag, h.Mode, h.Linkname, content))
	}
	want := []string{
		"d/ 5 755 ", "d/link 2 777 ../top", "d/run 0 755 content of d/run", "top 0 755 content of ./top",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	w.want(409, "GET", "/files/tree/top?archive=tar", "")
	w.want(404, "GET", "/files/nope?archive=tar", "")
	w.want(400, "PUT", "/files/tree?archive=tar", "this is no archive")
	w.want(400, "PUT", "/files/tree?archive=tar", up, "If-None-Match: *")
	w.want(400, "PUT", "/files/tree?archive=tar",
		archive(t, &tar.Header{Typeflag: tar.TypeReg, Name: "ok"}, &tar.Header{Typeflag: tar.TypeReg, Name: "../bad"}))
	if _, body := w.want(200, "GET", "/files/tree/ok", ""); body != "content of ok" {
		t.Errorf("the entry before the bad one: %q", body)
	}
	w.want(404, "GET", "/files/bad", "")
}

// A command's output, input and code pass through, and a directory comes back as it went.
func TestExecAndFoldersOfTheProgram(t *testing.T) {
	w := startWorkspace(t)
	data := filepath.Join(filepath.Dir(w.root), "data")
	in := func(input string, args ...string) (string, string, error) {
		t.Helper()
		var out, said bytes.Buffer
		c := command()
		c.SetIn(strings.NewReader(input))
		c.SetOut(&out)
		c.SetErr(&said)
		c.SetArgs(args)
		err := cli.Execute(t.Context(), c)
		return out.String(), said.String(), err
	}
	if _, said, err := in("", "exec", "--data", data, "shell/default", "--", "touch x"); err == nil ||
		said != "control: no such session of agent shell: the first prompt makes one\n" {
		t.Errorf("in a session that does not exist: %v, %q", err, said)
	}
	if _, said, err := in("", "prompt", "--data", data, "--instance", "default", "shell", "say: hi"); err != nil {
		t.Fatal(said, err)
	}
	large := strings.Repeat("0123456789abcdef", 200_000)
	out, said, err := in(large, "exec", "--data", data, "-i", "--env", "A=b", "shell/default", "--",
		`cat; echo "$A" >&2; exit 7`)
	if out != large || !strings.HasPrefix(said, "b\n") || cli.Code(err) != 7 {
		t.Errorf("%d bytes, %q, %v", len(out), said, err)
	}
	out, _, err = in("unread", "exec", "--data", data, "shell/default", "--", "printf", "%s|", "a b", "it's")
	if err != nil || out != "a b|it's|" {
		t.Errorf("%q, %v", out, err)
	}
	_, _, err = in("", "exec", "--data", data, "--timeout", "50ms", "shell/default", "--", "sleep 60")
	if cli.Code(err) != 124 {
		t.Error(err)
	}
	here, back := t.TempDir(), t.TempDir()
	err = errors.Join(os.MkdirAll(filepath.Join(here, "a/b"), 0o700),
		os.WriteFile(filepath.Join(here, "a/b/c"), []byte(large), 0o640),
		os.Symlink("b/c", filepath.Join(here, "a/link")))
	if err != nil {
		t.Fatal(err)
	}
	if _, said, err := in("", "files", "push", "--data", data, "shell/default", here, "there"); err != nil {
		t.Fatal(said, err)
	}
	if _, said, err := in("", "files", "pull", "--data", data, "shell/default", "there", back); err != nil {
		t.Fatal(said, err)
	}
	got, err := os.ReadFile(filepath.Join(back, "a/link"))
	if to, lerr := os.Readlink(filepath.Join(back, "a/link")); string(got) != large || to != "b/c" ||
		errors.Join(err, lerr) != nil {
		t.Errorf("%d bytes, %q, %v, %v", len(got), to, err, lerr)
	}
	fresh := filepath.Join(back, "fresh")
	if _, _, err := in("", "files", "pull", "--data", data, "shell/default", "nowhere", fresh); err == nil {
		t.Error("what is not there was copied")
	}
	if _, err := os.Stat(fresh); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory for nothing: %v", err)
	}
	if _, said, err := in("", "files", "get", "--data", data, "shell/default", "there"); err == nil ||
		!strings.HasSuffix(said, "/there: is a directory: `control files pull TARGET PATH DIR` copies one\n") {
		t.Errorf("a directory as a file: %v, %q", err, said)
	}
}
