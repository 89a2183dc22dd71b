package platformtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/model"
)

// record is a log that a test reads.
type record struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(p)
}

// lines is what was logged under a message.
func (r *record) lines(t *testing.T, message string) (found []map[string]any) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for line := range strings.Lines(r.b.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		if m["msg"] == message {
			found = append(found, m)
		}
	}
	return found
}

// one is the only line under a message, which must have these attributes.
func (r *record) one(t *testing.T, message string, attrs ...string) map[string]any {
	t.Helper()
	found := r.lines(t, message)
	if len(found) != 1 {
		t.Errorf("%d lines %q: %v", len(found), message, found)
		return nil
	}
	for _, a := range attrs {
		if v, ok := found[0][a]; !ok || v == "" {
			t.Errorf("%q has no %s: %v", message, a, found[0])
		}
	}
	return found[0]
}

func logged() (*record, *slog.Logger) {
	r := &record{}
	return r, slog.New(slog.NewJSONHandler(r, nil))
}

// prompted reads the events of a prompt.
type prompted struct {
	*testing.T
	stream pawlv1.SubmissionService_PromptClient
	queue  []*pawlv1.Event
	begun  time.Time
}

func promptAt(t *testing.T, p *platformtest.Platform, agent, message string) *prompted {
	t.Helper()
	stream, err := pawlv1.NewSubmissionServiceClient(p.GRPC).Prompt(context.WithoutCancel(t.Context()),
		&pawlv1.PromptRequest{Key: key(agent), Message: message})
	if err != nil {
		t.Fatal(err)
	}
	return &prompted{T: t, stream: stream, begun: time.Now()}
}

// until is the next event that pick takes.
func (r *prompted) until(pick func(*pawlv1.Event) bool) *pawlv1.Event {
	r.Helper()
	for {
		for len(r.queue) == 0 {
			m, err := r.stream.Recv()
			if err != nil {
				r.Fatal(err)
			}
			r.queue = m.GetEvents()
		}
		e := r.queue[0]
		r.queue = r.queue[1:]
		if pick(e) {
			return e
		}
	}
}

func (r *prompted) waiting() *pawlv1.ToolWaiting {
	r.Helper()
	return r.until(func(e *pawlv1.Event) bool { return e.GetToolWaiting() != nil }).GetToolWaiting()
}

// Whoever prompts is told within a second which executor is waited for, since when, until when, and what to do.
func TestAWaitIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logger := logged()
		gpu := agent.Shell()
		gpu.Name, gpu.Sandbox = "gpu", agent.Sandbox{
			Kind:   agent.SandboxExecutor,
			Labels: map[string]string{"gpu": "a100", "zone": "eu"},
		}
		c := platformtest.New(t, platformtest.Options{Agents: []agent.Definition{gpu}, Log: logger})
		a := c.Start("a", nil)
		r := promptAt(t, a, "gpu", quick)
		w := r.waiting()
		if took := time.Since(r.begun); took > time.Second {
			t.Errorf("told after %s", took)
		}
		if w.GetReason() != "NO_EXECUTOR" || w.GetLabels()["gpu"] != "a100" || w.GetName() != "bash" ||
			w.GetCallId() == "" ||
			w.GetUntil().AsTime().Sub(w.GetSince().AsTime()) != 2*time.Minute ||
			time.Since(w.GetSince().AsTime()) > time.Second ||
			!strings.Contains(w.GetMessage(), "start one with --label gpu=a100 --label zone=eu") {
			t.Errorf("%v", w)
		}
		settled := r.until(func(e *pawlv1.Event) bool { return e.GetSettled() != nil }).GetSettled().GetSubmission()
		if !strings.Contains(settled.GetResult().GetText(), "was available for 2m0s") {
			t.Errorf("%v", settled)
		}
		synctest.Wait()
		log.one(t, "tool call waits for an executor", "call_id", "session_id", "submission_id", "labels")
		log.one(t, "tool call failed", "call_id", "session_id", "submission_id", "duration", "reason", "error")
		if line := log.one(
			t,
			"submission settled",
			"submission_id",
			"session_id",
			"duration",
			"turns",
		); line["outcome"] != "completed" {
			t.Errorf("%v", line)
		}
	})
}

// An executor that is lost while it runs a call, one that has the files of a session, and one that comes back.
func TestAnExecutorThatIsLostIsToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logger := logged()
		c := platformtest.New(t, platformtest.Options{Log: logger})
		a := c.Start("a", nil)
		m := c.Machine(a, "m")
		m.Start(a)
		synctest.Wait() // control has counted the executor's slots
		r := promptAt(t, a, "shell", one)
		r.until(func(e *pawlv1.Event) bool { return len(e.GetToolOutput().GetData()) > 0 })
		m.Wire.Cut()
		w := r.waiting()
		if w.GetReason() != "EXECUTOR_AWAY" || w.GetExecutorId() != "m" ||
			!strings.Contains(w.GetMessage(), "the call goes on there") {
			t.Errorf("%v", w)
		}
		m.Wire.Mend()
		back := r.until(func(e *pawlv1.Event) bool { return e.GetToolOutput() != nil || e.GetToolFinished() != nil })
		if back.GetToolFinished() != nil {
			t.Errorf("its return was not told: %v", back)
		}
		r.until(func(e *pawlv1.Event) bool { return e.GetSettled() != nil })
		m.Kill()
		synctest.Wait()
		r = promptAt(t, a, "shell", quick)
		w = r.waiting()
		if w.GetReason() != "EXECUTOR_AWAY" || w.GetExecutorId() != "m" ||
			!strings.Contains(w.GetMessage(), "which has this session's files") ||
			!strings.Contains(w.GetMessage(), "prompt another session") ||
			time.Since(r.begun) > time.Second {
			t.Errorf("after %s: %v", time.Since(r.begun), w)
		}
		m.Start(a)
		r.until(func(e *pawlv1.Event) bool { return e.GetSettled() != nil })
		synctest.Wait()
		log.one(t, "tool call has its executor", "call_id", "executor_id", "waited")
		if down := log.lines(
			t,
			"executor disconnected",
		); len(down) != 2 || down[0]["duration"] == nil ||
			down[0]["executor_id"] != "m" {
			t.Errorf("%v", down)
		}
	})
}

// A submission that goes on at another replica is told of in the log, with its ids.
func TestATakeOverIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logger := logged()
		hung := agent.Shell()
		hung.Name, hung.Model = "hung", model.Ref{Provider: "test", ID: "hung"}
		w := &world{T: t}
		w.c = platformtest.New(
			t,
			platformtest.Options{Models: models{&w.asking}, Agents: []agent.Definition{hung}, Log: logger},
		)
		a := w.c.Start("a", nil)
		b := w.c.Start("b", nil)
		id := w.submitTo(a, "hung", "say: x")
		synctest.Wait()
		a.Kill()
		time.Sleep(time.Minute)
		if line := log.one(t, "lane taken over", "lane_id", "epoch", "attempts"); line["submission_id"] != id {
			t.Errorf("%v, want %s", line, id)
		}
		_, err := pawlv1.NewSubmissionServiceClient(b.GRPC).
			AbortSubmission(t.Context(), &pawlv1.AbortSubmissionRequest{SubmissionId: id})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if line := log.one(t, "submission settled", "reason"); line["outcome"] != "aborted" {
			t.Errorf("%v", line)
		}
	})
}

// A call that waits for its session's executor survives that no replica lives for longer than calls wait: the executor
// has no chance to come back in that time.
func TestNoReplicaLivesForLongerThanCallsWait(t *testing.T) {
	within(t, func(w *world) {
		w.wait(w.a, w.submit(quick), "quick result")
		w.m.Kill()
		synctest.Wait()
		id := w.submit(quick + "\n& again")
		w.sleep(time.Minute)
		w.a.Kill()
		w.dead(w.a)
		w.sleep(150 * time.Second)
		b := w.c.Start("a", nil)
		w.sleep(5 * time.Second)
		w.m.Start(b)
		w.wait(b, id, "quick result")
	})
}
