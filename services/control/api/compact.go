package api

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// CompactSession implements SessionService.
func (s *sessions) CompactSession(
	ctx context.Context, req *pawlv1.CompactSessionRequest,
) (*pawlv1.CompactSessionResponse, error) {
	one, err := s.deps.find(ctx, req.GetSessionId())
	if err != nil {
		return nil, err
	}
	if err := may(ctx, auth.Prompt, auth.Resource{
		Agent: one.Key.Agent, Instance: one.Key.Instance, Missing: session.ErrNotFound,
	}); err != nil {
		return nil, err
	}
	if one.ParentID != "" {
		return nil, submission.ErrSubAgent
	}
	in := submission.Input{
		Key: one.Key, SessionID: one.ID, IdempotencyKey: req.GetIdempotencyKey(), Options: lane.Options{Compact: true},
		Record: allowed(ctx),
	}
	if in.By, err = auth.FromContext(ctx).Speaker(""); err != nil {
		return nil, err
	}
	got, err := s.deps.Service.Submit(ctx, in)
	if err != nil {
		return nil, s.deps.withKnown(ctx, err)
	}
	return &pawlv1.CompactSessionResponse{
		Submission: encodeSubmission(got.Submission), Replayed: got.Replayed,
	}, nil
}

// encodeCompaction fills in an event of a summary.
func encodeCompaction(e *event.Event, out *pawlv1.Event) {
	c := e.Compaction
	of := &pawlv1.EntryRange{From: c.From, To: c.To}
	if e.Type == event.CompactionStarted {
		out.Event = &pawlv1.Event_CompactionStarted{CompactionStarted: &pawlv1.CompactionStarted{
			Reason: c.Why, Model: clean(c.Model), Entries: of, Tokens: c.Tokens, Messages: int32(c.Messages),
		}}
		return
	}
	done := &pawlv1.CompactionFinished{
		Reason: c.Why, Model: clean(c.Model), Entries: of, TokensBefore: c.Tokens, TokensAfter: c.TokensNow,
		MessagesBefore: int32(c.Messages), MessagesAfter: int32(c.MessagesNow), EntrySeq: c.EntrySeq,
		Usage: encodeUsage(c.Usage), Duration: durationpb.New(c.Duration),
	}
	if c.Error != "" {
		done.Error = &pawlv1.Error{Reason: "COMPACTION_FAILED", Message: clean(c.Error)}
	}
	out.Event = &pawlv1.Event_CompactionFinished{CompactionFinished: done}
}
