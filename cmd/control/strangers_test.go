package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/client"
)

// descriptors is how many the program of this test may have open.
const descriptors = 300

// Connections of strangers, however many, leave the descriptors that prompts and commands need.
func TestIdleConnectionsLeaveDescriptors(t *testing.T) {
	data := t.TempDir()
	c := exec.CommandContext(t.Context(), "/bin/sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$@"`, descriptors), "sh",
		os.Args[0],
		"--data", data, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--root", t.TempDir())
	c.Env = append(os.Environ(), asProgram+"=1")
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Wait() }) // the signal that ends it is its error
	for lines := bufio.NewScanner(out); lines.Scan() && !strings.HasPrefix(lines.Text(), "Try it"); {
	}
	here, ok, err := client.ReadAddresses(data)
	if !ok || err != nil {
		t.Fatalf("%v, %v", ok, err)
	}
	closed := make(chan struct{}, 2*descriptors)
	for range descriptors {
		for _, addr := range []string{here.GRPC, strings.TrimPrefix(here.HTTP, "http://")} {
			idle, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = idle.Close() })
			go func() {
				_, _ = io.Copy(io.Discard, idle) // until either side closes it
				closed <- struct{}{}
			}()
		}
	}
	// All have been accepted when all but those that may stay were closed: a client that came before would stand in a
	// queue of strangers.
	giveUp := time.After(time.Minute)
	for n := range 2*descriptors - descriptors/4 {
		select {
		case <-closed:
		case <-giveUp:
			t.Fatalf("%d of %d connections of strangers were closed", n, 2*descriptors)
		}
	}
	token, err := os.ReadFile(filepath.Join(data, "token"))
	if err != nil {
		t.Fatal(err)
	}
	web := http.Client{Timeout: time.Minute}
	for range 5 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, here.HTTP+"/agents/shell/i",
			strings.NewReader(`{"message":"echo hello"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		r.Header.Set("Content-Type", "application/json")
		res, err := web.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != 200 || !strings.Contains(string(body), "hello") {
			t.Fatalf("%d %s, %v", res.StatusCode, body, err)
		}
	}
}
