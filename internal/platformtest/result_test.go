package platformtest_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/internal/rpc"
)

// sized is the schema of an object with a number of lines.
var sized = &structpb.Struct{Fields: map[string]*structpb.Value{
	"type":     structpb.NewStringValue("object"),
	"required": structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewStringValue("lines")}}),
	"properties": structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
		"lines": structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
			"type": structpb.NewStringValue("integer"),
		}}),
	}}),
}}

func (w *world) wantResult(p *platformtest.Platform, message string) (*pawlv1.SubmitResponse, error) {
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	return pawlv1.NewSubmissionServiceClient(p.GRPC).Submit(ctx, &pawlv1.SubmitRequest{
		Key: key("shell"), Message: message, IdempotencyKey: "the result", ResultSchema: sized,
	})
}

// A replica is killed before and after every commit of a submission that is corrected, asked again, and ends with a
// result beside other work. Another replica comes to the same result, and does nothing twice.
func TestResultKilledAtEveryCommit(t *testing.T) {
	message := strings.Join([]string{
		"finish: {}", "say: nearly", "again:", leaf("one", 2), "& finish: {\"lines\": 3}", "& " + leaf("two", 1),
		"say: never said",
	}, "\n")
	atEveryCommit(t, 5, func(w *world, n int64, after bool) bool {
		met := w.atCommit(w.a, n, after, w.a.Strike)
		_, _ = w.wantResult(w.a, message) // the answer may get lost
		select {
		case <-w.a.Dead():
		case <-time.After(time.Hour):
		}
		w.a.DB.Strike(nil)
		p := w.a
		if met.Load() {
			p = w.next(w.a)
		}
		again, err := w.wantResult(p, message)
		if err != nil || !again.GetReplayed() {
			w.Fatalf("the replay: %v, %v", again, err)
		}
		got := w.wait(p, again.GetSubmission().GetSubmissionId(), "")
		if lines := got.GetResult().GetData().GetStructValue().GetFields()["lines"].GetNumberValue(); lines != 3 {
			w.Errorf("the result is %v", got.GetResult())
		}
		replay, err := w.wantResult(p, message)
		if err != nil || replay.GetSubmission().GetResult().GetData() == nil {
			w.Errorf("the replay of what has settled: %v, %v", replay, err)
		}
		w.finish(p, "shell", "one", "two")
		return met.Load()
	})
}

// What is wrong with a schema is said before anything is accepted; what an agent has ended with is in its last event.
func TestResultOfAPrompt(t *testing.T) {
	within(t, func(w *world) {
		bad := &structpb.Struct{Fields: map[string]*structpb.Value{"type": structpb.NewStringValue("text")}}
		client := pawlv1.NewSubmissionServiceClient(w.a.GRPC)
		_, err := client.Submit(w.Context(), &pawlv1.SubmitRequest{
			Key: key("shell"), Message: "say: hi", ResultSchema: bad,
		})
		if rpc.Reason(err) != "RESULT_SCHEMA_INVALID" {
			w.Errorf("a bad schema: %v", err)
		}
		ctx, cancel := context.WithTimeout(w.Context(), time.Hour)
		defer cancel()
		for line, reason := range map[string]string{`finish: {"lines": 4}`: "", "give up: too many": "GAVE_UP"} {
			stream, err := client.Prompt(ctx, &pawlv1.PromptRequest{
				Key: key("shell"), Message: "say: well\n" + line, ResultSchema: sized,
			})
			if err != nil {
				w.Fatal(err)
			}
			var last *pawlv1.Submission
			for last == nil {
				m, err := stream.Recv()
				if err != nil {
					w.Fatal(err)
				}
				for _, e := range m.GetEvents() {
					last = e.GetSettled().GetSubmission()
				}
			}
			if r := last.GetResult(); last.GetError().GetReason() != reason || (r.GetData() == nil) != (reason != "") ||
				r.GetText() != "well" {
				w.Errorf("settled %v", last)
			}
		}
	})
}
