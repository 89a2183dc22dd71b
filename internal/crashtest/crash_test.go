package crashtest_test

import (
	"testing"

	"github.com/pawl-dev/pawl/internal/pgtest"
)

// Crash matrix 7 and 8: control dies while a command runs, which ends while nobody is there, or after.
func TestControlIsKilled(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]bool{"the command ends meanwhile": true, "the command ends after": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlane(t, "")
			m := newMachine(t, p)
			sub := p.submit(command)
			m.awaitRunning()
			p.kill()
			if meanwhile {
				m.release()
				m.awaitEnd()
			}
			p.start()
			m.release()
			got := p.wait(sub.GetSubmissionId())
			m.once(got)
			if got.GetAttempts() != 1 {
				t.Errorf("%d attempts, want 1", got.GetAttempts())
			}
		})
	}
}

// Crash matrix 14a and 15: the executor's daemon dies, its command lives on in the keeper.
func TestExecutorIsKilled(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]bool{"the command ends meanwhile": true, "the command ends after": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlane(t, "")
			m := newMachine(t, p)
			sub := p.submit(command)
			m.awaitRunning()
			m.kill()
			if meanwhile {
				m.release()
				m.awaitEnd()
			}
			m.start()
			m.release()
			m.once(p.wait(sub.GetSubmissionId()))
		})
	}
}

// A command's true result survives the death of both ends.
func TestBothAreKilled(t *testing.T) {
	t.Parallel()
	p := newPlane(t, "")
	m := newMachine(t, p)
	sub := p.submit(command)
	m.awaitRunning()
	p.kill()
	m.kill()
	m.release()
	m.awaitEnd()
	p.start()
	m.start()
	m.once(p.wait(sub.GetSubmissionId()))
}

// A session that one replica admits runs on an executor that is connected to the other; when its replica dies, the
// other goes on with the very call.
func TestExecutorAtTheOtherReplica(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	one, two := newPlane(t, url), newPlane(t, url)
	m := newMachine(t, two)
	first := one.submit("echo through the other replica")
	if got := one.wait(first.GetSubmissionId()); got.GetResult().GetText() != "through the other replica" {
		t.Fatalf("settled %v: %q %v", got.GetOutcome(), got.GetResult().GetText(), got.GetError())
	}
	sub := one.submit(command)
	m.awaitRunning()
	one.kill()
	m.release()
	got := two.wait(sub.GetSubmissionId())
	m.once(got)
	if got.GetAttempts() != 1 {
		t.Errorf("%d attempts, want 1", got.GetAttempts())
	}
}
