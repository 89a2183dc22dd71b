package api_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/auth"
)

// Sessions are made before their first prompt, once, and are found by what callers say of them.
func TestSessionsAreMadeAndLabelled(t *testing.T) {
	f := start(t, hello())
	c := pawlv1.NewSessionServiceClient(f.as(t, auth.Token{Kind: auth.Client}))
	meta, err := structpb.NewStruct(map[string]any{"ticket": 7})
	if err != nil {
		t.Fatal(err)
	}
	req := &pawlv1.CreateSessionRequest{Key: key, Labels: map[string]string{"team": "a"}, Metadata: meta}
	for i, created := range []bool{true, false} {
		got, err := c.CreateSession(t.Context(), req)
		if err != nil || got.GetCreated() != created || !proto.Equal(got.GetSession().GetMetadata(), meta) {
			t.Fatalf("made %d: %v, %v", i, got, err)
		}
	}
	large := map[string]any{"x": fmt.Sprintf("%020000d", 1)}
	meta, err = structpb.NewStruct(large)
	if err != nil {
		t.Fatal(err)
	}
	for reason, req := range map[string]*pawlv1.CreateSessionRequest{
		"SESSION_EXISTS":     {Key: key},
		"METADATA_TOO_LARGE": {Key: key, Metadata: meta},
		"AGENT_NOT_FOUND":    {Key: &pawlv1.SessionKey{Agent: "nobody", Instance: "i"}},
		"INVALID_NAME":       {Key: &pawlv1.SessionKey{Agent: "shell", Instance: "i", Session: "rewound:1"}},
	} {
		if _, err := c.CreateSession(t.Context(), req); rpc.Reason(err) != reason {
			t.Errorf("got %v, want %s", err, reason)
		}
	}
	id := f.answered(t).GetSessionId()
	if _, err := c.UpdateSession(t.Context(), &pawlv1.UpdateSessionRequest{
		SessionId: id, SetLabels: map[string]string{"team": "b"},
	}); err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]int{"a": 0, "b": 1} {
		got, err := c.ListSessions(t.Context(), &pawlv1.ListSessionsRequest{Labels: map[string]string{"team": value}})
		if err != nil || len(got.GetSessions()) != want {
			t.Errorf("team %s: %v, %v", value, got, err)
		}
	}
	viewer := pawlv1.NewSessionServiceClient(f.as(t, auth.Token{Kind: auth.Client, Role: auth.Viewer}))
	if _, err := viewer.CreateSession(t.Context(), req); rpc.Reason(err) != "FORBIDDEN" {
		t.Errorf("a viewer: %v", err)
	}
}

// A fork is cut where no call lacks its result, and says so. A rewind leaves the old one under its id.
func TestSessionsAreForkedAndRewound(t *testing.T) {
	f := start(t, hello())
	c := pawlv1.NewSessionServiceClient(f.as(t, auth.Token{Kind: auth.Client}))
	id := f.answered(t).GetSessionId() // input, answer
	f.answered(t)
	fork, err := c.ForkSession(t.Context(), &pawlv1.ForkSessionRequest{SessionId: id, At: 3, Name: "fork"})
	if err != nil || !fork.GetMoved() || fork.GetSession().GetForkedFrom().GetEntrySeq() != 2 {
		t.Fatalf("the fork after an input without its answer: %v, %v", fork, err)
	}
	whole, err := c.ForkSession(t.Context(), &pawlv1.ForkSessionRequest{SessionId: id, Name: "whole", Instance: "j"})
	if err != nil || whole.GetMoved() || whole.GetSession().GetEntryHead() != 4 {
		t.Errorf("the fork of all: %v, %v", whole, err)
	}
	f.answered(t)
	again, err := c.ForkSession(t.Context(), &pawlv1.ForkSessionRequest{SessionId: id, Name: "whole", Instance: "j"})
	if err != nil || again.GetSession().GetSessionId() != whole.GetSession().GetSessionId() {
		t.Errorf("the same request again, when the session has gone on: %v, %v", again, err)
	}
	limited := pawlv1.NewSessionServiceClient(f.as(t, auth.Token{
		Kind: auth.Client, Limits: auth.Limits{InstancePrefix: "i"},
	}))
	if _, err := limited.ForkSession(t.Context(), &pawlv1.ForkSessionRequest{
		SessionId: id, Name: "x", Instance: "j",
	}); rpc.Reason(err) != "INSTANCE_NOT_FOUND" {
		t.Errorf("a fork into a foreign instance: %v", err)
	}
	for reason, req := range map[string]*pawlv1.ForkSessionRequest{
		"NO_SUCH_ENTRY": {SessionId: id, At: 7, Name: "x"}, "INVALID_NAME": {SessionId: id, At: 2},
		"SESSION_EXISTS": {SessionId: id, At: 4, Name: "fork"},
	} {
		if _, err := c.ForkSession(t.Context(), req); rpc.Reason(err) != reason {
			t.Errorf("got %v, want %s", err, reason)
		}
	}
	_, err = c.RewindSession(t.Context(), &pawlv1.RewindSessionRequest{SessionId: id})
	if rpc.Reason(err) != "NO_CUT" {
		t.Errorf("a rewind to nowhere: %v", err)
	}
	back, err := c.RewindSession(t.Context(), &pawlv1.RewindSessionRequest{SessionId: id, At: proto.Int64(2)})
	if err != nil {
		t.Fatal(err)
	}
	next := f.answered(t)
	if next.GetSessionId() != back.GetSession().GetSessionId() {
		t.Errorf("the next prompt went to %s, want %s", next.GetSessionId(), back.GetSession().GetSessionId())
	}
	admin := pawlv1.NewSubmissionServiceClient(f.as(t, auth.Token{Kind: auth.Client, Role: auth.Admin}))
	_, err = admin.Shell(t.Context(), &pawlv1.ShellRequest{SessionId: id, Command: "true"})
	if rpc.Reason(err) != "SESSION_REWOUND" || !strings.Contains(err.Error(), "GetSession says which session") {
		t.Errorf("a command for what was rewound: %v", err)
	}
	for of, want := range map[string]int64{id: 6, next.GetSessionId(): 4} {
		got, err := c.GetSession(t.Context(), &pawlv1.GetSessionRequest{
			Session: &pawlv1.GetSessionRequest_SessionId{SessionId: of},
		})
		if err != nil || got.GetSession().GetEntryHead() != want {
			t.Errorf("session %s: %v, %v", of, got, err)
		}
	}
}

// A command is part of the conversation, an export has all of it, and a busy session is deleted with abort only.
func TestShellExportAndDelete(t *testing.T) {
	f := start(t, nil) // what is submitted stays in the queue
	conn := f.as(t, auth.Token{Kind: auth.Client, Role: auth.Admin})
	c := pawlv1.NewSubmissionServiceClient(conn)
	first, err := c.Submit(t.Context(), &pawlv1.SubmitRequest{Key: key, Message: "hi"})
	if err != nil {
		t.Fatal(err)
	}
	id := first.GetSubmission().GetSessionId()
	req := &pawlv1.ShellRequest{SessionId: id, Command: "make", IdempotencyKey: "k"}
	for i := range 2 {
		got, err := c.Shell(t.Context(), req)
		if err != nil || got.GetReplayed() != (i > 0) || got.GetSubmission().GetSeq() != 2 {
			t.Fatalf("shell %d: %v, %v", i, got, err)
		}
	}
	for reason, req := range map[string]*pawlv1.ShellRequest{
		"COMMAND": {SessionId: id}, "TIMEOUT": {SessionId: id, Command: "x", Timeout: durationpb.New(-1)},
		"SESSION_NOT_FOUND":    {SessionId: "x", Command: "x"},
		"IDEMPOTENCY_CONFLICT": {SessionId: id, Command: "other", IdempotencyKey: "k"},
	} {
		if _, err := c.Shell(t.Context(), req); rpc.Reason(err) != reason {
			t.Errorf("got %v, want %s", err, reason)
		}
	}
	viewer := pawlv1.NewSubmissionServiceClient(f.as(t, auth.Token{Kind: auth.Client, Role: auth.Viewer}))
	if _, err := viewer.Shell(t.Context(), req); rpc.Reason(err) != "FORBIDDEN" {
		t.Errorf("a viewer: %v", err)
	}
	stream, err := pawlv1.NewSessionServiceClient(conn).ExportSession(t.Context(), &pawlv1.ExportSessionRequest{
		SessionId: id,
	})
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for {
		item, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, fmt.Sprintf("%T", item.GetItem()))
	}
	all := strings.Join(kinds, " ")
	if strings.Count(all, "Submission") != 2 || !strings.Contains(kinds[0], "Session") {
		t.Errorf("exported %s", all)
	}
	del := &pawlv1.DeleteSessionRequest{Session: &pawlv1.DeleteSessionRequest_SessionId{SessionId: id}}
	deletions := pawlv1.NewDeletionServiceClient(conn)
	if _, err := deletions.DeleteSession(t.Context(), del); rpc.Reason(err) != "SESSION_BUSY" {
		t.Errorf("a busy session: %v", err)
	}
	del.Abort = true
	begun, err := deletions.DeleteSession(t.Context(), del)
	if err != nil {
		t.Fatal(err)
	}
	del.Abort = false
	again, err := deletions.DeleteSession(t.Context(), del)
	if err != nil || again.GetDeletion().GetDeletionId() != begun.GetDeletion().GetDeletionId() {
		t.Errorf("asked again: %v, %v", again, err)
	}
}
