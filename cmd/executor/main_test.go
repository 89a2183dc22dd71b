package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/proctest"
	"github.com/pawl-dev/pawl/services/executor/keeper"
)

func TestMain(m *testing.M) {
	if keeper.Invoked() {
		os.Exit(keeper.Main())
	}
	os.Exit(m.Run())
}

// What control would refuse is refused before it is asked, in one line.
func TestRefusals(t *testing.T) {
	t.Setenv("PAWL_TOKEN", "x")
	for want, args := range map[string][]string{
		"--slots is 1 to 10000, not 0":                                        {"--slots", "0"},
		"--slots is a whole number, not \"x\": see `executor --help`":         {"--slots", "x"},
		"--control 127.0.0.1:99999: a port is a number from 0 to 65535":       {"--control", "127.0.0.1:99999"},
		"--root nowhere is not a directory":                                   {"--root", "nowhere"},
		"--name: an executor's id begins with a letter or digit and has at":   {"--name", "a b"},
		`--log-level is debug, info, warn or error, not "loud"`:               {"--log-level", "loud"},
		"--control is HOST:PORT, control's gRPC listener, not \"foo\"":        {"--control", "foo"},
		"--label is KEY=VALUE, not \"gpu\": see `executor --help`":            {"--label", "gpu"},
		"unknown flag: --contrl (did you mean --control?): see":               {"--contrl", "x"},
		"--slots is 1 to 10000, not 10001":                                    {"--slots", "10001"},
		"--slots is 1 to 10000, not 3000000000":                               {"--slots", "3000000000"},
		`--log-format is text or json, not "xml"`:                             {"--log-format", "xml"},
		"unknown flag: --foo: see `executor --help`":                          {"--foo"},
		"executor takes no arguments, not \"gpu1\": see `executor --help`":    {"gpu1"},
		"--control is HOST:PORT, control's gRPC listener, not \"http://h:1\"": {"--control", "http://h:1"},
		"--label =x: a label's key begins":                                    {"--label", "=x"},
		"--control pawl.example:1 is not on this host, and the token would":   {"--control", "pawl.example:1"},
		"--control pawl.example:2 is not on this host, and the token would": {
			"--control",
			"127.0.0.1:1,pawl.example:2",
		},
		"--control is HOST:PORT, control's gRPC listener, not \"h2\"": {
			"--control", "127.0.0.1:1",
			"--control", "h2",
		},
	} {
		var said bytes.Buffer
		c := command()
		c.SetErr(&said)
		c.SetArgs(append(args, "--data", t.TempDir()))
		err := cli.Execute(t.Context(), c)
		if cli.Code(err) != cli.Usage || !strings.HasPrefix(said.String(), "executor: "+want) ||
			strings.Count(said.String(), "\n") != 1 {
			t.Errorf("%s: %v, %q", args, err, said.String())
		}
	}
}

// Without a token, and with a variable that is no value of its flag, the command line is wrong.
func TestWrongEnvironment(t *testing.T) {
	for want, variable := range map[string]string{
		"no token: give --token-file FILE, or set PAWL_TOKEN\n": "PAWL_TOKEN=",
		"PAWL_SLOTS is a whole number, not \"many\"\n":          "PAWL_SLOTS=many",
	} {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
		var text bytes.Buffer
		c := command()
		c.SetErr(&text)
		c.SetArgs([]string{"--data", t.TempDir()})
		if err := cli.Execute(t.Context(), c); cli.Code(err) != cli.Usage || text.String() != "executor: "+want {
			t.Errorf("%s: code %d, %q", variable, cli.Code(err), text.String())
		}
		t.Setenv(name, "1")
	}
}

// said is what a program says, for who waits for it to say something.
type said struct {
	mu   sync.Mutex
	text strings.Builder
	want string
	once sync.Once
	seen chan struct{} // closed when want was said
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(p)
	if strings.Contains(s.text.String(), s.want) {
		s.once.Do(func() { close(s.seen) })
	}
	return len(p), nil
}

// Who gives control's HTTP port for its gRPC port is told so, of each address.
func TestWrongPortIsNamed(t *testing.T) {
	t.Setenv("PAWL_TOKEN", "x")
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	addr := func(s *httptest.Server) string { return s.Listener.Addr().String() }
	for _, want := range []string{
		addr(web) + " is a port for HTTP: use the address of control's gRPC listener",
		"nothing listens at " + addr(closed),
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		data := t.TempDir()
		log := &said{want: want, seen: make(chan struct{})}
		c := command()
		c.SetErr(log)
		c.SetArgs([]string{"--control", addr(web) + "," + addr(closed), "--data", data, "--name", "e"})
		done := make(chan error, 1)
		go func() { done <- cli.Execute(ctx, c) }()
		select {
		case <-log.seen:
		case <-ctx.Done():
			t.Errorf("it did not say %q but %q", want, log.text.String())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := proctest.EndKeeper(data, time.Minute); err != nil {
			t.Error(err)
		}
	}
}
