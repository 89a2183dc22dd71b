package sandboxtest

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// escape is a shell line that leaves five processes behind, in every way there is. Their argument tells whose they are.
func escape(mark string) string {
	return strings.ReplaceAll(`
sleep MARK1 &
nohup sleep MARK2 >/dev/null 2>&1 &
(setsid sleep MARK3 >/dev/null 2>&1 &)
setsid bash -c '(env -i /usr/bin/setsid sleep MARK4 </dev/null >/dev/null 2>&1 &) ; exit 0'
env -i bash -c '(trap "" TERM HUP INT; setsid sleep MARK5 >/dev/null 2>&1 &) ; exit 0'
until test $(pgrep -cf '^sleep MARK') = 5; do :; done
echo ready
`, "MARK", mark)
}

// mark is a number of seconds that no other test on this host sleeps.
func mark() string { return strconv.Itoa(1e8 + rand.IntN(9e8)) }

// alive counts processes of escape, from a command of its own.
func (b *bench) alive(id, mark string) string {
	b.Helper()
	r := b.result(b.start(id, sandbox.Command{Line: "pgrep -cf '^sleep " + mark + "'"}))
	return strings.TrimSpace(r.stdout)
}

var endingTests = []test{
	{"timeout", func(b *bench) {
		r := b.exec(sandbox.Command{Line: "echo partial; sleep 1000; echo never", Timeout: 1500 * time.Millisecond})
		check(b, "code", r.Code, 124)
		check(b, "timed out", r.TimedOut, true)
		check(b, "stdout", r.stdout, "partial\n")
		check(b, "stderr", r.stderr, "[timed out after 1.5 s]\n")
		check(b, "confirmed", r.Confirmed, true)
		r = b.result(b.start("c2", sandbox.Command{
			Line:    "printf half >&2; exec sleep 1000",
			Timeout: 1500 * time.Millisecond,
		}))
		check(b, "stderr", r.stderr, "half\n[timed out after 1.5 s]\n")
	}},
	{"a timeout that is not reached", func(b *bench) {
		r := b.exec(sandbox.Command{Line: "echo x", Timeout: time.Hour})
		check(b, "code", r.Code, 0)
		check(b, "timed out", r.TimedOut, false)
	}},
	{"cancel", func(b *bench) {
		x := b.start("call", sandbox.Command{Line: "echo partial; sleep 1000"})
		b.await(x, "partial\n")
		b.ok(x.Kill(b.ctx, 5*time.Second))
		r := b.result(x)
		check(b, "killed", r.Killed, true)
		check(b, "confirmed", r.Confirmed, true)
		check(b, "code", r.Code, 128+15)
		check(b, "stdout", r.stdout, "partial\n")
		b.ok(x.Kill(b.ctx, time.Second)) // again
	}},
	{"cancel lets a command clean up", func(b *bench) {
		x := b.start("call", sandbox.Command{Line: "trap 'echo bye; exit 5' TERM; echo on; while :; do sleep 0.01; " +
			"done"})
		b.await(x, "on\n")
		b.ok(x.Kill(b.ctx, 10*time.Second))
		r := b.result(x)
		check(b, "code", r.Code, 5)
		check(b, "stdout", r.stdout, "on\nbye\n")
		check(b, "killed", r.Killed, true)
	}},
	{"cancel of a command that ignores TERM", func(b *bench) {
		x := b.start("call", sandbox.Command{Line: "trap '' TERM; echo on; while :; do sleep 1; done"})
		b.await(x, "on\n")
		began := time.Now()
		b.ok(x.Kill(b.ctx, 100*time.Millisecond))
		r := b.result(x)
		check(b, "code", r.Code, 128+9)
		check(b, "confirmed", r.Confirmed, true)
		check(b, "grace was given", time.Since(began) >= 100*time.Millisecond, true)
	}},
	{"a wait for the end ends with its context", func(b *bench) {
		x := b.start("call", sandbox.Command{Line: "trap '' TERM; echo on; while :; do sleep 1; done"})
		b.await(x, "on\n")
		ctx, cancel := context.WithTimeout(b.ctx, 50*time.Millisecond)
		defer cancel()
		b.is(x.Kill(ctx, time.Hour), sandbox.ErrTimeout)
		b.ok(x.Kill(b.ctx, 0)) // and a second one may be shorter
		check(b, "confirmed", b.wait(x).Confirmed, true)
	}},
	{"no survivors of a normal end", func(b *bench) {
		mine := mark()
		r := b.sh(escape(mine))
		check(b, "stdout", r.stdout, "ready\n")
		check(b, "code", r.Code, 0)
		check(b, "confirmed", r.Confirmed, true)
		check(b, "leftovers", r.Leftovers, 5)
		check(b, "alive", b.alive("look", mine), "0")
		check(b, "leftovers of a command without", b.result(b.start("none", sandbox.Command{
			Line: "sleep 0.01 & wait; echo x",
		})).Leftovers, 0)
	}},
	{"no survivors of a cancel", func(b *bench) {
		mine := mark()
		x := b.start("call", sandbox.Command{Line: escape(mine) + "wait; sleep 1000"})
		b.await(x, "ready\n")
		b.ok(x.Kill(b.ctx, 50*time.Millisecond))
		check(b, "confirmed", x.Exit().Confirmed, true)
		check(b, "alive", b.alive("look", mine), "0")
	}},
	{"no survivors of a timeout", func(b *bench) {
		mine := mark()
		r := b.exec(sandbox.Command{Line: escape(mine) + "sleep 1000", Timeout: 3 * time.Second})
		check(b, "code", r.Code, 124)
		check(b, "confirmed", r.Confirmed, true)
		check(b, "alive", b.alive("look", mine), "0")
	}},
	{"others live on", func(b *bench) {
		mine, theirs := mark(), mark()
		other := b.start("other", sandbox.Command{Line: escape(theirs) + "sleep 1000"})
		b.await(other, "ready\n")
		r := b.sh(escape(mine))
		check(b, "confirmed", r.Confirmed, true)
		check(b, "alive", b.alive("look1", mine), "0")
		check(b, "others alive", b.alive("look2", theirs), "5")
		b.ok(other.Kill(b.ctx, 50*time.Millisecond))
		check(b, "confirmed", other.Exit().Confirmed, true)
		check(b, "others alive", b.alive("look3", theirs), "0")
	}},
	{"a background child that holds the pipe", func(b *bench) {
		began := time.Now()
		r := b.sh("sleep 1000 & echo x")
		check(b, "code", r.Code, 0)
		check(b, "stdout", r.stdout, "x\n")
		check(b, "leftovers", r.Leftovers, 1)
		check(b, "soon", time.Since(began) < 20*time.Second, true)
	}},
	{"background children that are kept", func(b *bench) {
		mine := mark()
		x := b.start("call", sandbox.Command{
			Line: "(until test -e go; do sleep 0.01; done; echo ignored; echo done > result; exec sleep " + mine +
				") & echo x", Keep: true,
		})
		r := b.result(x)
		check(b, "code", r.Code, 0)
		check(b, "stdout", r.stdout, "x\n")
		check(b, "confirmed", r.Confirmed, false)
		b.write("go", "")
		look := b.start("look", sandbox.Command{Line: "until test -s result; do sleep 0.01; done", Timeout: patience})
		check(b, "it lives on", b.wait(look).Code, 0)
		b.ok(x.Kill(b.ctx, 50*time.Millisecond))
		check(b, "alive", b.alive("look2", mine), "0")
	}},
	{"the far side of a substitution writes its last", func(b *bench) {
		check(b, "stdout", b.sh("seq 1 3 > >(sed s/^/n/)").stdout, "n1\nn2\nn3\n")
	}},
}
