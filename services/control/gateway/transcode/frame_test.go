package transcode

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

// A delta of 40 bytes takes at most 160: its id is its seq, and its entry will have the time.
func TestDeltasAreShort(t *testing.T) {
	delta := strings.Repeat("x", 40)
	text := &pawlv1.Event_Text{Text: &pawlv1.TextDelta{Text: delta}}
	thinking := &pawlv1.Event_Thinking{Thinking: &pawlv1.ThinkingDelta{Text: delta}}
	for name, e := range map[string]*pawlv1.Event{"text": {Event: text}, "thinking": {Event: thinking}} {
		e.Seq, e.Turn, e.Time, e.SubmissionId = 12345, 12, timestamppb.Now(), "0198c0de-0000-7000-8000-000000000000"
		got, err := appendFrames(nil, &pawlv1.WatchSessionResponse{Events: []*pawlv1.Event{e}})
		want := "event: " + name + "\nid: 12345\ndata: {"
		if err != nil || !strings.HasPrefix(string(got), want) || !strings.HasSuffix(string(got), "}\n\n") {
			t.Errorf("%q, %v", got, err)
		}
		if n := strings.Count(string(got), delta); n != 1 || len(got) > 160+2*(len(name)-len("text")) {
			t.Errorf("%d bytes, the text is in them %d times: %s", len(got), n, got)
		}
	}
}
