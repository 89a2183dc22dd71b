package sandboxtest

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

func value(s string) *string { return &s }

var commandTests = []test{
	{"a command that begins as an option does is a command", func(b *bench) {
		for i, line := range []string{"--version", "-x\necho hi", "-c"} {
			got := b.result(b.start(fmt.Sprint("option", i), sandbox.Command{Line: line + " || echo $?"}))
			if name, _, _ := strings.Cut(line, "\n"); !strings.Contains(got.stderr, name+": ") {
				b.Errorf("%q wrote %q and %q", line, got.stdout, got.stderr)
			}
		}
	}},
	{"a command of 1 MiB behaves like a short one", func(b *bench) {
		const mebibyte = 1 << 20
		short := "echo \"$0 $# ${1-none}\"; exit 3\n"
		head, tail := "cat > big <<'E'\n", "\nE\nwc -c < big; cat; "+short
		fill := mebibyte - len(head) - len(tail)
		long := head + strings.Repeat("ż", fill/2) + strings.Repeat("y", fill%2) + tail
		want := b.result(b.start("short", sandbox.Command{Line: short}))
		got := b.result(b.start("long", sandbox.Command{Line: long}))
		check(b, "length", len(long), mebibyte)
		check(b, "output", got.stdout, fmt.Sprintf("%d\n%s", fill+1, want.stdout))
		check(b, "code", got.Code, 3)
		check(b, "errors", got.stderr, "")
		check(b, "the text", b.read("big"), strings.Repeat("ż", fill/2)+strings.Repeat("y", fill%2)+"\n")
		wrong := b.result(
			b.start("wrong", sandbox.Command{Line: "exit 5 #" + strings.Repeat("x", mebibyte/2) + "\nif"}),
		)
		check(b, "an early exit", wrong.Code, 5)
	}},
	{"exit codes", func(b *bench) {
		for i, want := range []int{0, 1, 7, 126, 127, 255} {
			e := b.wait(b.start(fmt.Sprintf("c%d", i), sandbox.Command{Line: fmt.Sprintf("exit %d", want)}))
			check(b, "code", e.Code, want)
			check(b, "signal", e.Signal, 0)
			check(b, "confirmed", e.Confirmed, true)
			check(b, "times", !e.Started.IsZero() && !e.Ended.Before(e.Started), true)
		}
		check(b, "no such program", b.sh("no-such-program-here").Code, 127)
	}},
	{"death by a signal is 128+n", func(b *bench) {
		r := b.sh("kill -KILL $$")
		check(b, "code", r.Code, 128+9)
		check(b, "signal", r.Signal, 9)
		check(b, "killed", r.Killed, false)
	}},
	{"split streams", func(b *bench) {
		r := b.sh("echo out; echo err >&2; printf more")
		check(b, "stdout", r.stdout, "out\nmore")
		check(b, "stderr", r.stderr, "err\n")
		check(b, "stdout bytes", r.StdoutBytes, 8)
		check(b, "stderr bytes", r.StderrBytes, 4)
	}},
	{"no output", func(b *bench) {
		r := b.sh("true")
		check(b, "output", r.stdout+r.stderr, "")
	}},
	{"binary output", func(b *bench) {
		check(b, "stdout", b.sh(`printf 'a\000b\377'`).stdout, "a\x00b\xff")
	}},
	{"shell", func(b *bench) {
		r := b.sh("x=\"a  b\"; for i in 1 2; do echo \"$i $x\"; done | tr a-z A-Z\necho 'two\nlines' # comment")
		check(b, "stdout", r.stdout, "1 A  B\n2 A  B\ntwo\nlines\n")
	}},
	{"env", func(b *bench) {
		r := b.exec(sandbox.Command{
			Line: `printf '%s|%s|%s' "$PAWL_T1" "$PAWL_T2" "${HOME-unset}"`,
			Env:  map[string]*string{"PAWL_T1": value("a b\n"), "PAWL_T2": value(""), "HOME": nil},
		})
		check(b, "stdout", r.stdout, "a b\n||unset")
		_, err := b.sb.Start(b.ctx, "bad", sandbox.Command{Line: "true", Env: map[string]*string{"a=b": value("")}})
		b.is(err, sandbox.ErrInvalidArg)
	}},
	{"cwd", func(b *bench) {
		b.fixture("mkdir sub; touch file")
		check(b, "default", b.result(b.start("c1", sandbox.Command{Line: "pwd -P"})).stdout, b.sb.Root()+"\n")
		check(b, "relative", b.result(b.start("c2", sandbox.Command{Line: "pwd -P", Cwd: "sub"})).stdout,
			b.path("sub")+"\n")
		check(b, "absolute", b.result(b.start("c3", sandbox.Command{Line: "pwd -P", Cwd: "/"})).stdout, "/\n")
		_, err := b.sb.Start(b.ctx, "c4", sandbox.Command{Line: "touch ran", Cwd: "missing"})
		b.is(err, sandbox.ErrNotFound)
		_, err = b.sb.Start(b.ctx, "c5", sandbox.Command{Line: "touch ran", Cwd: "file"})
		b.is(err, sandbox.ErrNotDir)
		_, err = b.sb.Attach(b.ctx, "c4")
		b.is(err, sandbox.ErrUnknownExec)
		check(b, "nothing ran", b.result(b.start("c4", sandbox.Command{Line: "ls"})).stdout, "file\nsub\n")
	}},
	{"stdin is at its end", func(b *bench) {
		check(b, "stdout", b.sh("cat; echo $?").stdout, "0\n")
	}},
	{"input", func(b *bench) {
		const text = "a\x00b\xff\n"
		with := func(id, line string, input []byte) string {
			return b.result(b.start(id, sandbox.Command{Line: line, Input: input})).stdout
		}
		check(b, "binary", with("binary", "cat; echo $?", []byte(text)), text+"0\n")
		whole := bytes.Repeat([]byte("0123456789abcde\n"), sandbox.MaxInput/16)
		check(b, "in parts", with("parts", "read -r one; echo $one; cat | wc -c; cat", whole),
			fmt.Sprintf("0123456789abcde\n%d\n", len(whole)-16))
		check(b, "unread", with("unread", "echo out", whole), "out\n")
		_, err := b.sb.Start(b.ctx, "big", sandbox.Command{Line: "true", Input: append(whole, 'x')})
		b.is(err, sandbox.ErrTooLarge)
		_, err = b.sb.Start(b.ctx, "two", sandbox.Command{
			Line: "true", Input: whole, Stdin: strings.NewReader("x"),
		})
		b.is(err, sandbox.ErrInvalidArg)
	}},
	{"5 MB of output", func(b *bench) {
		r := b.sh("yes 0123456789abcde | head -c 5242880; yes x | head -c 1000000 >&2")
		check(b, "stdout", r.stdout, strings.Repeat("0123456789abcde\n", 5<<20/16))
		check(b, "stderr", r.stderr, strings.Repeat("x\n", 500000))
		check(b, "cut", r.StdoutCut+r.StderrCut, 0)
	}},
	{"output while it runs", func(b *bench) {
		x := b.start("call", sandbox.Command{Line: "echo first; until test -e go; do sleep 0.01; done; echo second"})
		b.await(x, "first\n")
		select {
		case <-x.Done():
			b.Error("done too early")
		default:
		}
		b.write("go", "")
		check(b, "all", b.result(x).stdout, "first\nsecond\n")
	}},
	{"concurrent commands", func(b *bench) {
		const n = 50
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				x, err := b.sb.Start(b.ctx, fmt.Sprintf("c%d", i),
					sandbox.Command{Line: fmt.Sprintf("echo %d; exit %d", i, i)})
				if err != nil {
					b.Error(err)
					return
				}
				select {
				case <-x.Done():
				case <-time.After(patience):
					b.Error("does not end")
					return
				}
				check(b, "code", x.Exit().Code, i)
				check(b, "stdout", b.output(x, sandbox.Stdout), fmt.Sprintf("%d\n", i))
			})
		}
		wg.Wait()
	}},
	{"ids", func(b *bench) {
		for _, id := range []string{"", "a/b", "..", strings.Repeat("x", 65), "a b", "ä"} {
			_, err := b.sb.Start(b.ctx, id, sandbox.Command{Line: "true"})
			b.is(err, sandbox.ErrInvalidArg)
		}
		_, err := b.sb.Start(b.ctx, "nul", sandbox.Command{Line: "a\x00b"})
		b.is(err, sandbox.ErrInvalidArg)
	}},
	{"a second start attaches", func(b *bench) {
		cmd := sandbox.Command{Line: "echo ran >> count; echo out; exit 3"}
		b.wait(b.start("same", cmd))
		r := b.result(b.start("same", cmd))
		check(b, "code", r.Code, 3)
		check(b, "stdout", r.stdout, "out\n")
		check(b, "times it ran", b.read("count"), "ran\n")
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				x, err := b.sb.Start(b.ctx, "at-once", sandbox.Command{Line: "echo ran >> count2; sleep 0.1"})
				if err != nil {
					b.Error(err)
					return
				}
				select {
				case <-x.Done():
				case <-time.After(patience):
					b.Error("does not end")
				}
			})
		}
		wg.Wait()
		check(b, "times it ran", b.read("count2"), "ran\n")
	}},
	{"attach and forget", func(b *bench) {
		_, err := b.sb.Attach(b.ctx, "never")
		b.is(err, sandbox.ErrUnknownExec)
		b.ok(b.sb.Forget(b.ctx, "never"))
		x := b.start("call", sandbox.Command{Line: "until test -e go; do sleep 0.01; done; echo out; exit 4"})
		y, err := b.sb.Attach(b.ctx, "call")
		b.ok(err)
		b.is(b.sb.Forget(b.ctx, "call"), sandbox.ErrInvalidArg)
		b.write("go", "")
		check(b, "code", b.wait(x).Code, 4)
		check(b, "code", b.wait(y).Code, 4)
		z, err := b.sb.Attach(b.ctx, "call")
		b.ok(err)
		check(b, "stdout", b.result(z).stdout, "out\n")
		b.ok(b.sb.Forget(b.ctx, "call"))
		_, err = b.sb.Attach(b.ctx, "call")
		b.is(err, sandbox.ErrUnknownExec)
	}},
}
