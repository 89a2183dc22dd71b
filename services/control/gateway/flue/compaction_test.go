package flue

import (
	"slices"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// typesOf are the types of what a submission's events come to.
func typesOf(sub submission.Submission, events ...event.Event) (types []string) {
	s := &script{at: noon, turn: 1}
	s.add(events...)
	t := NewTranslator(sub, opus, apiOf)
	for _, b := range s.batches {
		for _, e := range t.Translate(b) {
			types = append(types, e.Type)
		}
	}
	return types
}

func TestASummaryIsTold(t *testing.T) {
	t.Parallel()
	sub := submission.Submission{Loop: lane.Loop{ID: submissionID, Key: session.Key{Instance: "i", Name: "default"}}}
	started := event.Event{Type: event.Started, EntrySeq: 1, Entry: &session.Entry{Seq: 1, Kind: session.Input}}
	settled := event.Event{Type: event.Settled, Settlement: &event.Settlement{Outcome: string(lane.Failed)}}
	done := event.Compaction{Why: "threshold", Model: opus.String(), Tokens: 9_000, EntrySeq: 2, Duration: time.Second}
	begun, failed := done, done
	begun.EntrySeq, failed.EntrySeq, failed.Error = 0, 0, "the summariser is broken"
	of := func(c event.Compaction) []event.Event {
		return []event.Event{
			{Type: event.CompactionStarted, Compaction: &begun}, {Type: event.CompactionFinished, Compaction: &c},
		}
	}
	head := []string{"operation_start", "agent_start", "turn_start", "turn_request", "compaction_start", "turn"}
	got := typesOf(sub, slices.Concat([]event.Event{started}, of(done), []event.Event{settled})...)
	if want := append(slices.Clone(head), "compaction"); !slices.Equal(got[:len(want)], want) {
		t.Errorf("a summary is told as %v", got)
	}
	got = typesOf(sub, slices.Concat([]event.Event{started}, of(failed), []event.Event{settled})...)
	want := append(slices.Clone(head), "log")
	if !slices.Equal(got[:len(want)], want) || slices.Contains(got, "compaction") {
		t.Errorf("a summary that failed is told as %v", got)
	}
	sub.Options.Compact = true
	started.EntrySeq, started.Entry = 0, nil
	settled.Settlement.Outcome = string(lane.Completed)
	got = typesOf(sub, slices.Concat([]event.Event{started}, of(done), []event.Event{settled})...)
	want = []string{"operation_start", "compaction_start", "turn", "compaction", "operation", "idle"}
	if !slices.Equal(got, want) {
		t.Errorf("a summary by hand is told as %v", got)
	}
}
