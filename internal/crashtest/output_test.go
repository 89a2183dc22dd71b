package crashtest_test

import (
	"bytes"
	"strconv"
	"testing"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/pgtest"
)

// loud is command with more output than may be on its way at once, before and after it is let go.
const loud = `echo run >> runs; seq 1 200000; seq 1 30000 >&2; until [ -e go ]; do sleep 0.05; done; seq 200001 400000; echo end >> runs`

// seq is what the command of that name writes.
func seq(from, to int) []byte {
	var b []byte
	for n := from; n <= to; n++ {
		b = append(strconv.AppendInt(b, int64(n), 10), '\n')
	}
	return b
}

// heard checks that what the stream tells of loud's output is what it wrote: every byte, once, before its end.
func (p *plane) heard(sub *pawlv1.Submission) {
	p.t.Helper()
	got := map[string][]byte{}
	finished := 0
	for _, e := range p.events(sub) {
		if e.GetToolFinished() != nil {
			finished++
		}
		o := e.GetToolOutput()
		if o == nil {
			continue
		}
		if finished > 0 || o.GetSkipped() != 0 || o.GetOffset() != int64(len(got[o.GetStream()])) {
			p.t.Errorf("%s at %d, skipping %d, after %d bytes and %d ends", o.GetStream(), o.GetOffset(),
				o.GetSkipped(), len(got[o.GetStream()]), finished)
			return
		}
		got[o.GetStream()] = append(got[o.GetStream()], o.GetData()...)
	}
	for stream, want := range map[string][]byte{"stdout": seq(1, 400000), "stderr": seq(1, 30000)} {
		if !bytes.Equal(got[stream], want) {
			p.t.Errorf("%d bytes of %s that are not the %d that were written", len(got[stream]), stream, len(want))
		}
	}
	if finished != 1 {
		p.t.Errorf("the call ended %d times", finished)
	}
}

// I5: the bytes that a client sees of a command's output are the bytes that it wrote, whoever dies while it writes
// them.
func TestOutputSurvives(t *testing.T) {
	t.Parallel()
	type act func(p *plane, m *machine)
	for name, c := range map[string]struct{ kill, start act }{
		"control":               {func(p *plane, _ *machine) { p.kill() }, func(p *plane, _ *machine) { p.start() }},
		"the executor's daemon": {func(_ *plane, m *machine) { m.kill() }, func(_ *plane, m *machine) { m.start() }},
		"both": {
			func(p *plane, m *machine) { p.kill(); m.kill() },
			func(p *plane, m *machine) { p.start(); m.start() },
		},
	} {
		for when, meanwhile := range map[string]bool{
			", the command ends meanwhile": true,
			", the command ends after":     false,
		} {
			t.Run(name+when, func(t *testing.T) {
				t.Parallel()
				p := newPlane(t, "")
				m := newMachine(t, p)
				sub := p.submit(loud)
				m.awaitRunning()
				c.kill(p, m)
				if meanwhile {
					m.release()
					m.awaitEnd()
				}
				c.start(p, m)
				m.release()
				p.heard(p.wait(sub.GetSubmissionId()))
			})
		}
	}
}

// The same through the replica that has the executor, whose peer runs the session and dies.
func TestOutputSurvivesAtTheOtherReplica(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	one, two := newPlane(t, url), newPlane(t, url)
	m := newMachine(t, two)
	sub := one.submit(loud)
	m.awaitRunning()
	one.kill()
	m.release()
	two.heard(two.wait(sub.GetSubmissionId()))
}
