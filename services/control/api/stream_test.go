package api_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/session"
)

// Who has seen more than there is, is told so, and does not wait for what will be kept from it.
func TestWatchFromBeyondTheHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, hello())
		sub := f.answered(t)
		c := pawlv1.NewSessionServiceClient(f.operator(t))
		// The events are started, entry and settled: nobody watched the text.
		for after, want := range map[int64]string{
			3: "", 4: "CURSOR_AHEAD", 1<<63 - 1: "CURSOR_AHEAD", -1: "CURSOR", -1 << 63: "CURSOR",
		} {
			watch, err := c.WatchSession(
				t.Context(),
				&pawlv1.WatchSessionRequest{SessionId: sub.GetSessionId(), After: after},
			)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := watch.Recv(); rpc.Reason(err) != want ||
				want == "CURSOR_AHEAD" &&
					(status.Code(err) != codes.OutOfRange || !strings.Contains(err.Error(), "end at 3")) ||
				want == "CURSOR" && status.Code(err) != codes.InvalidArgument {
				t.Errorf("%d: %v", after, err)
			}
		}
	})
}

func TestPromptStreamsEverything(t *testing.T) {
	f := start(t, hello())
	c := pawlv1.NewSubmissionServiceClient(f.operator(t))
	for _, replayed := range []bool{false, true} {
		stream, err := c.Prompt(t.Context(), &pawlv1.PromptRequest{Key: key, Message: "hi", IdempotencyKey: "k"})
		if err != nil {
			t.Fatal(err)
		}
		first, err := stream.Recv()
		if err != nil || first.GetSubmission().GetSubmissionId() == "" || len(first.GetEvents()) > 0 {
			t.Fatalf("first %v, %v", first, err)
		}
		if text := first.GetSubmission().GetResult().GetText(); (text == "Hello") != replayed {
			t.Errorf("replayed %v: the answer begins with %q", replayed, text)
		}
		var kinds []string
		var last *pawlv1.Event
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range m.GetEvents() {
				kinds = append(
					kinds,
					string(e.ProtoReflect().WhichOneof(e.ProtoReflect().Descriptor().Oneofs().ByName("event")).Name()),
				)
				last = e
			}
		}
		if got := strings.Join(kinds, " "); got != "started text entry settled" {
			t.Errorf("replayed %v: %s", replayed, got)
		}
		got := last.GetSettled().GetSubmission()
		if got.GetResult().GetText() != "Hello" || got.GetOutcome() != pawlv1.Outcome_OUTCOME_COMPLETED ||
			got.GetResult().GetUsage().GetInput() != 10 {
			t.Errorf("%v", got)
		}
	}
	_, err := c.Submit(t.Context(), &pawlv1.SubmitRequest{Key: key, Message: "ho", IdempotencyKey: "k"})
	if status.Code(err) != codes.AlreadyExists || rpc.Reason(err) != "IDEMPOTENCY_CONFLICT" {
		t.Errorf("%v", err)
	}
}

func TestPromptTellsOfAnAbortInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, nil)
		c := pawlv1.NewSubmissionServiceClient(f.operator(t))
		stream, err := c.Prompt(t.Context(), &pawlv1.PromptRequest{Key: key, Message: "hi"})
		if err != nil {
			t.Fatal(err)
		}
		first, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := c.AbortSubmission(t.Context(), &pawlv1.AbortSubmissionRequest{SubmissionId: first.GetSubmission().GetSubmissionId()}); err != nil {
			t.Fatal(err)
		}
		m, err := stream.Recv()
		if err != nil || m.GetEvents()[0].GetSettled().GetSubmission().GetOutcome() != pawlv1.Outcome_OUTCOME_ABORTED {
			t.Errorf("%v, %v", m, err)
		}
		if m, err := stream.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("%v, %v", m, err)
		}
	})
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, hello())
		sub := f.answered(t)
		watch, err := pawlv1.NewSessionServiceClient(f.operator(t)).WatchSession(t.Context(),
			&pawlv1.WatchSessionRequest{SessionId: sub.GetSessionId(), After: 1})
		if err != nil {
			t.Fatal(err)
		}
		if first, err := watch.Recv(); err != nil || len(first.GetEvents()) != 0 {
			t.Errorf("first %v, %v", first, err)
		}
		past, err := watch.Recv()
		if err != nil || len(past.GetEvents()) != 2 || past.GetEvents()[0].GetSeq() != 2 ||
			past.GetEvents()[0].GetEntry().GetEntry().GetMessage().GetContent()[0].GetText() != "Hello" {
			t.Errorf("past %v, %v", past, err)
		}
		of := session.Key{Tenant: "default", Agent: "shell", Instance: "i", Name: "default"}
		f.Events.Publish(sub.GetSessionId(), of, []event.Event{
			{Seq: 4, Type: event.Text, Text: "cut \xf0\x9f"},
			{
				Seq: 5, Type: event.ToolOutput, Call: &event.Call{ID: "c"},
				Output: &event.Output{Stderr: true, Offset: 7, Data: []byte{0xff}},
			},
			{Seq: 6, Type: event.ModelWaiting, Wait: &event.Wait{
				Reason: "RETRY", Since: time.Unix(1, 0), Until: time.Unix(2, 0), Message: "x\xff",
			}},
		})
		live, err := watch.Recv()
		if err != nil || len(live.GetEvents()) != 3 || live.GetEvents()[0].GetText().GetText() != "cut \uFFFD" ||
			live.GetEvents()[1].GetToolOutput().GetStream() != "stderr" {
			t.Errorf("live %v, %v", live, err)
		}
		wait := live.GetEvents()[2].GetModelWaiting()
		if wait.GetReason() != "RETRY" || wait.GetSince().GetSeconds() != 1 || wait.GetUntil().GetSeconds() != 2 ||
			wait.GetMessage() != "x\uFFFD" {
			t.Errorf("wait %v", wait)
		}
	})
}

// A watch is sent what it wants of sub-agents, each event with whose it is.
func TestWatchOfSubAgents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, hello())
		sub := f.answered(t)
		const task, other = "01890a5d-ac96-774b-bcce-b302099a8057", "01890a5d-ac96-774b-bcce-b302099a8058"
		of := &event.Loop{Task: task, Parent: other, Session: "conversation", Root: sub.GetSubmissionId()}
		entry := &session.Entry{Seq: 1, Kind: session.Input}
		events := []event.Event{
			{Seq: 4, SubmissionID: "its", Loop: of, Type: event.TaskStarted, Entry: entry, Task: &event.Task{
				Agent: "helper", Description: "x\xff", Cwd: "/tmp", Model: "m/1",
			}},
			{Seq: 5, SubmissionID: "its", Loop: of, Type: event.Text, Text: "well"},
			{
				Seq: 6, SubmissionID: "its", Loop: of, Type: event.TaskFinished,
				Task:       &event.Task{Duration: time.Second},
				Settlement: &event.Settlement{Outcome: "failed", Reason: "R", Message: "why", Turn: 2},
			},
			{Seq: 7, SubmissionID: sub.GetSubmissionId(), Type: event.Text, Text: "root"},
		}
		c := pawlv1.NewSessionServiceClient(f.operator(t))
		var watches []grpc.ServerStreamingClient[pawlv1.WatchSessionResponse]
		wants := [][]int64{{4, 6, 7}, {7}, {4, 5, 6, 7}, {4, 5, 6, 7}}
		for _, req := range []*pawlv1.WatchSessionRequest{
			{},
			{Children: pawlv1.ChildEvents_CHILD_EVENTS_NONE},
			{Children: pawlv1.ChildEvents_CHILD_EVENTS_ALL},
			{Children: pawlv1.ChildEvents_CHILD_EVENTS_ENTRIES, Tasks: []string{other, task}},
		} {
			req.SessionId, req.After = sub.GetSessionId(), 3
			watch, err := c.WatchSession(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			if first, err := watch.Recv(); err != nil || len(first.GetEvents()) != 0 {
				t.Errorf("first %v, %v", first, err)
			}
			watches = append(watches, watch)
		}
		at := session.Key{Tenant: "default", Agent: "shell", Instance: "i", Name: "default"}
		f.Events.Publish(sub.GetSessionId(), at, events)
		var all []*pawlv1.Event
		for i, watch := range watches {
			got, err := watch.Recv()
			var seqs []int64
			for _, e := range got.GetEvents() {
				seqs = append(seqs, e.GetSeq())
			}
			if err != nil || !slices.Equal(seqs, wants[i]) {
				t.Errorf("watch %d: %v, %v, want %v", i, seqs, err, wants[i])
			}
			all = got.GetEvents()
		}
		if all[3].GetTask() != nil || all[1].GetSubmissionId() != "its" {
			t.Errorf("%v", all)
		}
		if who := all[1].GetTask(); who.GetTaskId() != task || who.GetParentTaskId() != other ||
			who.GetSessionId() != "conversation" || who.GetRootSubmissionId() != sub.GetSubmissionId() {
			t.Errorf("%v", who)
		}
		if s := all[0].GetTaskStarted(); s.GetAgent() != "helper" || s.GetDescription() != "x\uFFFD" ||
			s.GetCwd() != "/tmp" || s.GetModel() != "m/1" || s.GetEntry().GetSeq() != 1 {
			t.Errorf("%v", s)
		}
		if s := all[2].GetTaskFinished(); s.GetOutcome() != pawlv1.Outcome_OUTCOME_FAILED ||
			s.GetError().GetReason() != "R" || s.GetError().GetMessage() != "why" || s.GetDuration().GetSeconds() != 1 {
			t.Errorf("%v", s)
		}
		for reason, req := range map[string]*pawlv1.WatchSessionRequest{
			"CHILDREN": {SessionId: sub.GetSessionId(), Children: 9},
			"TASKS":    {SessionId: sub.GetSessionId(), Tasks: []string{"x"}},
		} {
			watch, err := c.WatchSession(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := watch.Recv(); rpc.Reason(err) != reason || status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s: %v", reason, err)
			}
		}
	})
}

// A reader that takes nothing is left after a while, and told how to go on.
func TestStalledReaderIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, modeltest.Always(modeltest.Say(strings.Repeat("x", 60<<10))))
		for range 19 {
			f.answered(t)
		}
		sub := f.answered(t)
		watch, err := pawlv1.NewSessionServiceClient(f.operator(t)).WatchSession(t.Context(),
			&pawlv1.WatchSessionRequest{SessionId: sub.GetSessionId()})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Minute)
		size := 0
		for err == nil {
			var m *pawlv1.WatchSessionResponse
			if m, err = watch.Recv(); err == nil {
				size += proto.Size(m)
			}
		}
		if rpc.Reason(err) != "READER_STALLED" || status.Code(err) != codes.ResourceExhausted ||
			size < 1 || size > 600<<10 {
			t.Errorf("after %d bytes: %v", size, err)
		}
	})
}

// Whoever waits for a submission stops waiting soon after their token is revoked.
func TestRevokedTokenEndsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, nil) // what is submitted stays queued
		secret, made, err := f.auth.Mint(t.Context(), auth.Token{Kind: auth.Client}, 0)
		if err != nil {
			t.Fatal(err)
		}
		c := pawlv1.NewSubmissionServiceClient(f.conn(secret))
		got, err := c.Submit(t.Context(), &pawlv1.SubmitRequest{Key: key, Message: "hi"})
		if err != nil {
			t.Fatal(err)
		}
		waited := make(chan error, 1)
		go func() {
			_, err := c.WaitSubmission(t.Context(), &pawlv1.WaitSubmissionRequest{
				SubmissionId: got.GetSubmission().GetSubmissionId(), Timeout: durationpb.New(time.Hour),
			})
			waited <- err
		}()
		synctest.Wait()
		_, err = pawlv1.NewTokenServiceClient(f.operator(t)).RevokeToken(t.Context(),
			&pawlv1.RevokeTokenRequest{TokenId: made.ID})
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		err = <-waited
		if took := time.Since(begun); status.Code(err) != codes.Unauthenticated || took > 10*time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// What holds a stream open loses it soon after its token is revoked.
func TestRevokedTokenEndsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, hello())
		secret, made, err := f.auth.Mint(t.Context(), auth.Token{Kind: auth.Executor, Executor: "gpu1"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		stream, err := pawlv1.NewExecutorServiceClient(f.conn(secret)).Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		_, err = pawlv1.NewTokenServiceClient(f.operator(t)).RevokeToken(t.Context(),
			&pawlv1.RevokeTokenRequest{TokenId: made.ID})
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if _, err := stream.Recv(); status.Code(err) != codes.Unauthenticated {
			t.Errorf("%v", err)
		}
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("after %v", took)
		}
	})
}
