package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/debian"
)

// nginx runs the real one, with its default settings of a proxy, in front of a control plane until the test ends, and
// returns a client that goes through it.
func nginx(t *testing.T, upstream string) *http.Client {
	t.Helper()
	program, err := debian.Find(t.Context(), "nginx", "nginx", "/usr/sbin/nginx")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	conf := write(t, fmt.Sprintf(`
daemon off;
master_process off;
pid %[1]s/pid;
error_log stderr;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen unix:%[2]s;
		location / { proxy_pass %[3]s; }
	}
}`, dir, socket, upstream), dir, "nginx.conf")
	c := exec.CommandContext(t.Context(), program, "-c", conf)
	c.Stderr = os.Stderr
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Wait() }) // the signal that ends it is its error
	dial := func(ctx context.Context, _, _ string) (conn net.Conn, err error) {
		var d net.Dialer
		for {
			conn, err = d.DialContext(ctx, "unix", socket)
			if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
				return conn, err
			}
			select { // it is starting
			case <-ctx.Done():
				return nil, err
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial}}
}

// Events pass through a proxy when they happen: those of a command that waits are there while it waits.
func TestStreamsPassAProxy(t *testing.T) {
	s := start(t, t.TempDir())
	client := nginx(t, s.here.HTTP)
	token, err := os.ReadFile(filepath.Join(s.data, "token"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request := func(method, path, body string) *http.Response {
		r, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "text/event-stream")
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = res.Body.Close() })
		if res.StatusCode != http.StatusOK {
			t.Fatal(res.Status)
		}
		return res
	}
	gate := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	prompt := request(http.MethodPost, "/agents/shell/i", fmt.Sprintf(`{"message":"cat %s"}`, gate))
	lines := bufio.NewScanner(prompt.Body)
	await(t, lines, "event: tool_start") // while the command waits
	path, _, _ := strings.Cut(strings.TrimPrefix(prompt.Header.Get("Link"), "<"), ">")
	watched := bufio.NewScanner(request(http.MethodGet, path, "").Body)
	await(t, watched, "event: tool_started")
	if err := os.WriteFile(gate, []byte("now\n"), 0); err != nil {
		t.Fatal(err)
	}
	await(t, lines, "event: idle")
	await(t, watched, "event: settled")
}

// await reads lines up to one.
func await(t *testing.T, lines *bufio.Scanner, want string) {
	t.Helper()
	for lines.Scan() {
		if lines.Text() == want {
			return
		}
	}
	t.Fatalf("%q did not come: %v", want, lines.Err())
}
