package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// transcript is what a page shows, with the wildcards that it uses: … is anything, and abcd… is an id, the same one
// wherever it stands.
type transcript struct {
	t    *testing.T
	file string
	ids  map[string]string
}

var (
	id       = regexp.MustCompile(`\b[0-9a-z]{4}…`)
	wildcard = regexp.MustCompile(`\b[0-9a-z]{4}…|…`)
)

// pattern is what matches the beginning of an answer as it is shown. Its groups are the ids that are new, in order.
func (tr transcript) pattern(shown string) (re string, names []string) {
	var b strings.Builder
	last := 0
	for _, at := range wildcard.FindAllStringIndex(shown, -1) {
		b.WriteString(regexp.QuoteMeta(shown[last:at[0]]))
		name := shown[at[0]:at[1]]
		switch last = at[1]; {
		case name == "…":
			b.WriteString("(?s:.*?)")
		case tr.ids[name] != "":
			b.WriteString(regexp.QuoteMeta(tr.ids[name]))
		default:
			names = append(names, name)
			b.WriteString(`([0-9a-f-]{8,})`)
		}
	}
	b.WriteString(regexp.QuoteMeta(shown[last:]))
	return `\A` + b.String(), names
}

// matches compares an answer with what is shown, and learns the ids. A stream need only begin like that.
func (tr transcript) matches(shown, answer string, stream bool) bool {
	re, names := tr.pattern(shown)
	if !stream {
		re += `\s*\z`
	}
	found := regexp.MustCompile(re).FindStringSubmatch(answer)
	if found == nil {
		return false
	}
	for i, name := range names {
		tr.ids[name] = found[i+1]
	}
	return true
}

// known puts the real ids into what a client sends.
func (tr transcript) known(text string) string {
	tr.t.Helper()
	return id.ReplaceAllStringFunc(text, func(name string) string {
		if tr.ids[name] == "" {
			tr.t.Fatalf("%s: %s was not shown before %s", tr.file, name, text)
		}
		return tr.ids[name]
	})
}

// blocks are the indented blocks of a page, without their indentation, each with the heading that it stands under.
func blocks(t *testing.T, file string) (all []block) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", file))
	if err != nil {
		t.Fatal(err)
	}
	heading, in := "", false
	for line := range strings.Lines(string(text)) {
		code, indented := strings.CutPrefix(line, "    ")
		switch {
		case strings.HasPrefix(line, "#"):
			heading, in = strings.TrimSpace(line), false
		case indented && !in:
			all, in = append(all, block{heading, code}), true
		case indented:
			all[len(all)-1].text += code
		case strings.TrimSpace(line) == "" && in:
			all[len(all)-1].text += "\n"
		default:
			in = false
		}
	}
	return all
}

type block struct{ heading, text string }

// turn is a command and what it prints.
type turn struct{ command, shown string }

// turns are the commands of a block: each begins with "$ " and goes on while its lines end with a backslash.
func (b block) turns() (all []turn) {
	continued := false
	for line := range strings.Lines(b.text) {
		command, starts := strings.CutPrefix(line, "$ ")
		switch {
		case starts:
			all = append(all, turn{command: command})
		case continued:
			all[len(all)-1].command += line
		case len(all) > 0:
			all[len(all)-1].shown += line
		}
		continued = (starts || continued) && strings.HasSuffix(line, "\\\n")
	}
	return all
}

// The commands of the pages answer as they show.
func TestDocumentedCommands(t *testing.T) {
	for _, file := range []string{"http.md", "results.md", "sessions.md"} {
		t.Run(file, func(t *testing.T) { documented(t, file) })
	}
}

func documented(t *testing.T, file string) {
	s := start(t, t.TempDir())
	secret, err := os.ReadFile(filepath.Join(s.data, "token"))
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	script := "#!/bin/sh\n" + asProgram + "=1 exec " + os.Args[0] + ` "$@"` + "\n"
	if err := os.WriteFile(filepath.Join(bin, "control"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "TOKEN="+strings.TrimSpace(string(secret)), "PAWL_SERVER="+s.here.GRPC,
		"PAWL_TOKEN_FILE="+filepath.Join(s.data, "token"), "PATH="+bin+":"+os.Getenv("PATH"))
	host, dir := strings.TrimPrefix(s.here.HTTP, "http://"), t.TempDir()
	tr, ran := transcript{t, file, map[string]string{}}, 0
	for _, b := range blocks(t, tr.file) {
		for _, one := range b.turns() {
			line := strings.ReplaceAll(tr.known(one.command), "localhost:3000", host)
			tr.run(line, one.shown, dir, env)
			ran++
		}
	}
	if ran < 3 {
		t.Errorf("%s shows %d commands", tr.file, ran)
	}
}

// run compares what a command prints with what is shown. A stream is left when it has shown as much.
func (tr transcript) run(line, shown, dir string, env []string) {
	tr.t.Helper()
	ctx, cancel := context.WithTimeout(tr.t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir, cmd.Env = dir, env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what it starts ends with it, and its output
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		tr.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tr.t.Fatal(err)
	}
	shown = strings.TrimSpace(shown)
	said, chunk, stream := "", make([]byte, 64<<10), strings.Contains(line, "curl -sN")
	for err == nil {
		var n int
		n, err = out.Read(chunk)
		said += string(chunk[:n])
		if stream && tr.matches(shown, said, true) {
			cancel()
			break
		}
	}
	if !stream && !tr.matches(shown, said, false) || stream && err != nil {
		tr.t.Errorf("%s: %s\nanswers\n%s\nand not\n%s", tr.file, line, said, shown)
	}
	_ = cmd.Wait() // it may have been cancelled
}

// The frames of the page come as it shows, in this order; it leaves some out.
func TestDocumentedFrames(t *testing.T) {
	s := start(t, t.TempDir())
	secret, err := os.ReadFile(filepath.Join(s.data, "token"))
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{"Authorization": {"Bearer " + strings.TrimSpace(string(secret))}}
	ran := 0
	for _, b := range blocks(t, "websocket.md") {
		if !strings.HasPrefix(b.text, "client ") && !strings.HasPrefix(b.text, "server ") {
			continue
		}
		_, path, _ := strings.Cut(b.heading, ": ")
		if strings.HasPrefix(path, "/workflows/") {
			continue // this program has no workflows yet; the gateway's tests have these frames
		}
		path = strings.NewReplacer("{agent}", "shell", "{instance}", "me").Replace(path)
		tr := transcript{t, "websocket.md", map[string]string{}}
		if err := tr.talk(s.here.HTTP+path, header, b.text); err != nil {
			t.Errorf("%s, %s: %v", tr.file, b.heading, err)
		}
		ran++
	}
	if ran < 2 {
		t.Errorf("the page shows %d conversations", ran)
	}
}

func (tr transcript) talk(url string, header http.Header, text string) error {
	ctx, cancel := context.WithTimeout(tr.t.Context(), 40*time.Second)
	defer cancel()
	conn, res, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		return err
	}
	defer conn.CloseNow() //nolint:errcheck // of a test
	_ = res
	conn.SetReadLimit(1 << 20)
	for lines := bufio.NewScanner(strings.NewReader(strings.TrimSpace(text))); lines.Scan(); {
		who, frame, _ := strings.Cut(lines.Text(), "  ")
		if who == "client" {
			if err := conn.Write(ctx, websocket.MessageText, []byte(tr.known(frame))); err != nil {
				return fmt.Errorf("sending %s: %w", frame, err)
			}
			continue
		}
		var said []string
		for {
			_, got, err := conn.Read(ctx)
			if err != nil {
				return fmt.Errorf("waiting for %s: %w; it said\n%s", frame, err, strings.Join(said, "\n"))
			}
			said = append(said, string(got))
			if tr.matches(frame, string(got), false) {
				break
			}
		}
	}
	return nil
}
