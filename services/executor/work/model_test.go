package work

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

// truth is what control may rely on after what it was told. Every frame from the executor is checked against it.
type truth struct {
	*rig
	safety  map[string]pawlv1.Safety
	epoch   int64             // highest that was sent
	revoked map[string]uint32 // dispatches that were answered UNKNOWN
	barred  map[string]bool   // cancelled before arrival
	results map[string][]byte // last outcome told
	mayRun  map[string]int    // how often the command may have run at most
	acked   map[string]bool
	crashed bool
}

func (m *truth) check(t *rapid.T) {
	for _, f := range m.take() {
		switch f := f.GetFrame().(type) {
		case *pawlv1.ConnectRequest_Status:
			if id := f.Status.GetCall().GetCallId(); f.Status.GetCall().GetState() == pawlv1.State_STATE_UNKNOWN {
				if m.safety[id] == pawlv1.Safety_SAFETY_AT_MOST_ONCE && m.box.Runs(id) > 0 {
					t.Fatalf("%s is told to be unknown and has run", id)
				}
				if m.acked[id] {
					t.Fatalf("%s is told to be unknown and was settled", id)
				}
				if f.Status.GetJournalId() != m.j.ID() {
					t.Fatalf("%s is told to be unknown by journal %q, and this is %q", id, f.Status.GetJournalId(),
						m.j.ID())
				}
				m.revoked[id] = max(m.revoked[id], f.Status.GetDispatch())
				delete(m.results, id) // one that was interrupted may run again
			}
		case *pawlv1.ConnectRequest_Result:
			r := f.Result
			out, err := proto.Marshal(&pawlv1.Result{Outcome: r.Outcome})
			if err != nil {
				t.Fatal(err)
			}
			id, reason := r.GetCallId(), r.GetFailure().GetReason()
			if old := m.results[id]; old != nil && string(old) != string(out) &&
				m.safety[id] == pawlv1.Safety_SAFETY_AT_MOST_ONCE {
				t.Fatalf("two results of %s", id)
			}
			m.results[id] = out
			if reason == "INTERRUPTED" && !m.crashed {
				t.Fatalf("%s is told to be interrupted and nothing crashed", id)
			}
		}
	}
	for id, s := range m.safety {
		n := m.box.Runs(id)
		if s == pawlv1.Safety_SAFETY_AT_MOST_ONCE && n > 1 {
			t.Fatalf("%s ran %d times", id, n)
		}
		if m.barred[id] && n > m.mayRun[id] {
			t.Fatalf("%s ran after it was cancelled", id)
		}
	}
}

// Any sequence of frames, lost connections, restarts and crashes keeps what control was told true.
func TestTruth(t *testing.T) {
	base := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		// Without Deadline, which a bubble does not have.
		rapid.Check(struct{ testing.TB }{t}, func(t *rapid.T) {
			dir, err := os.MkdirTemp(base, "journal")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			m := &truth{
				rig: newRig(t, dir), safety: map[string]pawlv1.Safety{}, revoked: map[string]uint32{}, barred: map[string]bool{},
				results: map[string][]byte{}, mayRun: map[string]int{}, acked: map[string]bool{}, epoch: 1,
			}
			defer m.end()
			m.slots = 3
			m.up()
			m.connect()
			ids := []string{"amo-1", "amo-2", "amo-3", "idem-1", "pure-1"}
			for _, id := range ids {
				m.safety[id] = map[byte]pawlv1.Safety{
					'a': pawlv1.Safety_SAFETY_AT_MOST_ONCE,
					'i': pawlv1.Safety_SAFETY_IDEMPOTENT, 'p': pawlv1.Safety_SAFETY_PURE,
				}[id[0]]
			}
			id := rapid.SampledFrom(ids)
			someEpoch := func(t *rapid.T) int64 {
				e := max(1, m.epoch+rapid.Int64Range(-1, 1).Draw(t, "epoch"))
				m.epoch = max(m.epoch, e)
				return e
			}
			t.Repeat(map[string]func(*rapid.T){
				"execute": func(t *rapid.T) {
					id, before := id.Draw(t, "id"), m.epoch
					e := execute(id, line("echo x;sleep 1m;exit 3"), dispatch(rapid.Uint32Range(1, 3).Draw(t,
						"dispatch")))
					e.Epoch, e.Safety = someEpoch(t), m.safety[id]
					runs := m.box.Runs(id)
					m.send(e)
					synctest.Wait()
					ran := m.box.Runs(id) > runs
					if ran && (e.GetEpoch() < before || e.GetDispatch() <= m.revoked[id] || m.acked[id] ||
						m.barred[id]) {
						t.Fatalf("%s of epoch %d, dispatch %d ran; epoch %d, revoked %d, acknowledged %v, cancelled %v",
							id, e.GetEpoch(), e.GetDispatch(), before, m.revoked[id], m.acked[id], m.barred[id])
					}
				},
				"attach": func(t *rapid.T) {
					m.attach(id.Draw(t, "id"), someEpoch(t), rapid.Uint32Range(1, 3).Draw(t, "dispatch"), 0, 0)
				},
				"cancel": func(t *rapid.T) {
					id, before := id.Draw(t, "id"), m.epoch
					e := someEpoch(t)
					_, here := m.s.live[id]
					if r, known := m.j.Lookup(id); known && r.CallID == id {
						here = true
					}
					m.cancel(id, e)
					if e >= before && !here {
						m.barred[id], m.mayRun[id] = true, m.box.Runs(id)
					}
				},
				"ack": func(t *rapid.T) {
					m.check(t)
					done := slices.Sorted(maps.Keys(m.results))
					if len(done) == 0 {
						return
					}
					id := rapid.SampledFrom(done).Draw(t, "done")
					if c := m.s.live[id]; c == nil || c.running() {
						return // it runs again
					}
					m.ack(id)
					m.acked[id] = true
				},
				"time": func(t *rapid.T) {
					time.Sleep(time.Duration(rapid.IntRange(1, 90).Draw(t,
						"s")) * time.Second)
				},
				"reconnect": func(t *rapid.T) { m.check(t); m.connect() },
				"restart":   func(t *rapid.T) { m.check(t); m.restart() },
				"crash": func(t *rapid.T) {
					m.check(t)
					m.crashed = true
					m.box.Crash()
					if rapid.Bool().Draw(t, "both") {
						m.restart()
					}
				},
				"": m.check,
			})
			// In the end everything that is here has an outcome.
			m.check(t)
			time.Sleep(time.Hour)
			m.connect()
			time.Sleep(time.Hour)
			m.check(t)
			for _, c := range m.s.Inflight() {
				if c.GetState() == pawlv1.State_STATE_RUNNING || m.results[c.GetCallId()] == nil {
					t.Fatal(fmt.Sprint("left: ", c))
				}
			}
		})
	})
}
