package work

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/journal"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
	"github.com/pawl-dev/pawl/services/executor/work/worktest"
)

var errKilled = errors.New("killed")

// mortal counts what a daemon does to the world, and dies before the step that it is to die at: nothing that it does
// from then on has an effect, and nobody hears of it.
type mortal struct {
	*worktest.Box

	mu     sync.Mutex // guards what follows
	steps  []string
	diesAt int // 0 is never
	dead   bool
	synced []byte // the journal as it was at the last sync
}

func (m *mortal) step(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.steps = append(m.steps, name); len(m.steps) == m.diesAt {
		m.dead = true
	}
	if m.dead {
		return errKilled
	}
	return nil
}

// taken is the steps so far.
func (m *mortal) taken() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.steps...)
}

// dieAt lets the daemon die before the kth step from now on.
func (m *mortal) dieAt(k int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.diesAt = len(m.steps) + k
}

func (m *mortal) isDead() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead
}

func (m *mortal) journal() journal.Config {
	return journal.Config{
		WriteAt: func(f *os.File, b []byte, off int64) (int, error) {
			if err := m.step("write"); err != nil {
				return 0, err
			}
			return f.WriteAt(b, off)
		},
		Fsync: func(f *os.File) error {
			if err := m.step("sync"); err != nil {
				return err
			}
			info, err := f.Stat()
			if err != nil || info.IsDir() {
				return err
			}
			b := make([]byte, info.Size())
			_, err = f.ReadAt(b, 0)
			m.mu.Lock()
			defer m.mu.Unlock()
			m.synced = b
			return err
		},
	}
}

func (m *mortal) Start(ctx context.Context, id string, cmd sandbox.Command) (sandbox.Exec, error) {
	if err := m.step("start"); err != nil {
		return nil, err
	}
	x, err := m.Box.Start(ctx, id, cmd)
	if killed := m.step("started"); killed != nil {
		return nil, killed
	}
	return x, err
}

func (m *mortal) Attach(ctx context.Context, id string) (sandbox.Exec, error) {
	if err := m.step("attach"); err != nil {
		return nil, err
	}
	return m.Box.Attach(ctx, id)
}

func (m *mortal) Forget(ctx context.Context, id string) error {
	if err := m.step("forget"); err != nil {
		return err
	}
	return m.Box.Forget(ctx, id)
}

// victim is control's side of a daemon that dies at one step.
type victim struct {
	*rig
	m        *mortal
	safety   pawlv1.Safety
	epoch    int64
	dispatch uint32
	outcome  string // that control has recorded, "" for none
}

// heed takes the frames that came before the daemon died, and does what control does.
func (v *victim) heed() {
	for range 20 {
		frames := v.take()
		if len(frames) == 0 || v.m.isDead() {
			return
		}
		for _, f := range frames {
			switch f := f.GetFrame().(type) {
			case *pawlv1.ConnectRequest_Status:
				if f.Status.GetCall().GetState() == pawlv1.State_STATE_UNKNOWN && f.Status.GetDispatch() == v.dispatch {
					v.order(v.dispatch + 1)
				}
			case *pawlv1.ConnectRequest_Result:
				got := outcome(f.Result)
				if v.outcome != "" && v.outcome != got {
					v.t.Errorf("the outcome was %q and is now %q", v.outcome, got)
				}
				if got == "INTERRUPTED" && v.safety != pawlv1.Safety_SAFETY_AT_MOST_ONCE {
					v.order(v.dispatch + 1)
					continue
				}
				v.outcome = got
				v.ack("a")
			}
		}
	}
	v.t.Fatal("it never ends")
}

func (v *victim) order(n uint32) {
	v.dispatch = n
	v.send(execute("a", line("add effects a;sleep 1m;exit 3"), dispatch(n), epoch(v.epoch),
		func(e *pawlv1.Execute) { e.Safety = v.safety }))
}

// again starts the daemon that comes after the one that died; host says that the host went down with it.
func (v *victim) again(host bool) {
	v.m.mu.Lock()
	v.m.dead = true
	synced := v.m.synced
	v.m.mu.Unlock()
	v.disconnect()
	v.s.Close()
	_ = v.j.Close() // cannot write
	if host {
		v.box.Crash()
		if err := os.WriteFile(filepath.Join(v.dir, "journal"), synced, 0o600); err != nil {
			v.t.Fatal(err)
		}
	}
	v.m = &mortal{Box: v.box}
	v.sb, v.jcfg = v.m, v.m.journal()
	v.up()
	v.connect()
}

// E1–E7: a daemon may die between any two steps of a call's life, alone or with its host. Alone, the true result comes
// of it; with its host, a command that ran is of unknown outcome. It never runs twice.
func TestKilledBetweenAnyTwoSteps(t *testing.T) {
	for _, safety := range []pawlv1.Safety{
		pawlv1.Safety_SAFETY_AT_MOST_ONCE, pawlv1.Safety_SAFETY_IDEMPOTENT,
		pawlv1.Safety_SAFETY_PURE,
	} {
		for _, host := range []bool{false, true} {
			name := strings.ToLower(strings.TrimPrefix(safety.String(), "SAFETY_")) +
				map[bool]string{false: ", the daemon", true: ", the host"}[host]
			t.Run(name, func(t *testing.T) {
				all := killedAt(t, safety, host, 0)
				if got := strings.Join(all, " "); safety == pawlv1.Safety_SAFETY_AT_MOST_ONCE &&
					!strings.Contains(got, "write sync start started write write sync forget write") {
					t.Errorf("the steps are %s", got)
				}
				for k := 1; k <= len(all); k++ {
					killedAt(t, safety, host, k)
				}
			})
		}
	}
}

// killedAt runs one call whose daemon dies before its kth step, and returns the steps that there are.
func killedAt(t *testing.T, safety pawlv1.Safety, host bool, k int) (steps []string) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		v := &victim{rig: newRig(t, dir), safety: safety, epoch: 1, m: &mortal{}}
		v.m.Box = v.box
		v.sb, v.jcfg = v.m, v.m.journal()
		defer v.end()
		v.up()
		opening := len(v.m.taken())
		if k > 0 {
			v.m.dieAt(k)
		}
		v.connect()
		v.order(1)
		v.heed()
		time.Sleep(2 * time.Minute)
		v.heed()
		time.Sleep(2 * time.Minute)
		steps = append(steps, v.m.taken()[opening:]...)
		running := v.box.Runs("a") == 1 && v.outcome == "" && len(v.box.Held()) > 0
		told := v.outcome
		v.again(host)
		v.epoch = 2
		for range 3 {
			v.attach("a", v.epoch, v.dispatch, 0, 0)
			v.heed()
			time.Sleep(2 * time.Minute)
			v.heed()
			if v.outcome != "" {
				break
			}
			v.connect()
		}
		if v.outcome != "exit 3" && !(host && v.outcome == "INTERRUPTED" && running && told == "" &&
			safety == pawlv1.Safety_SAFETY_AT_MOST_ONCE) {
			t.Errorf("killed before step %d of %v: the outcome is %q (told %q, running %v)", k, steps, v.outcome, told,
				running)
		}
		if n := v.box.Runs("a"); n != 1 && (safety == pawlv1.Safety_SAFETY_AT_MOST_ONCE || !host || n != 2) {
			t.Errorf("killed before step %d of %v: it ran %d times", k, steps, n)
		}
		// What was acknowledged never runs again, whoever asks, after whatever comes.
		time.Sleep(time.Minute)
		v.again(false)
		v.order(v.dispatch)
		if got := brief(v.take()); safety == pawlv1.Safety_SAFETY_AT_MOST_ONCE && got != "status a TOMBSTONE" {
			t.Errorf("killed before step %d of %v: after the acknowledgement came %q", k, steps, got)
		}
	})
	return steps
}

// E3: a call that was told to be unknown, or cancelled before it came, never runs, between whichever steps the daemon
// dies.
func TestKilledWhileRevoking(t *testing.T) {
	for name, revoke := range map[string]func(v *victim){
		"attach": func(v *victim) { v.attach("a", 2, 1, 0, 0) },
		"cancel": func(v *victim) { v.cancel("a", 2) },
	} {
		for _, host := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, host %v", name, host), func(t *testing.T) {
				for k := 1; k <= 8; k++ {
					dir := t.TempDir()
					synctest.Test(t, func(t *testing.T) {
						v := &victim{rig: newRig(t, dir), m: &mortal{}}
						v.m.Box = v.box
						v.sb, v.jcfg = v.m, v.m.journal()
						defer v.end()
						v.up()
						v.m.dieAt(k)
						v.connect()
						revoke(v)
						told := brief(v.take())
						if v.m.isDead() {
							told = ""
						}
						v.again(host)
						v.send(execute("a", line("add effects a"), epoch(1))) // it was on its way
						v.send(execute("a", line("add effects a"), epoch(3)))
						v.take()
						if v.box.Runs("a") > 0 && told != "" {
							t.Errorf("killed before step %d: it ran after %q was told", k, told)
						}
						if k == 8 && told == "" {
							t.Error("nothing was told although nobody died")
						}
					})
				}
			})
		}
	}
}
