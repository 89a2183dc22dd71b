package api

import (
	"context"
	"encoding/hex"
	"errors"

	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// Calls are the records of tool calls.
type Calls interface {
	// LoopCalls returns at most limit calls of a loop after the one at a place in a turn, in order.
	LoopCalls(ctx context.Context, loopID string, turn, index, limit int) ([]call.Call, error)
}

// What an export reads at once. Each entry may have megabytes, and so may what a call came to.
const (
	exportEntries = 8
	exportCalls   = 16
	// exportPiece is how many bytes of an image are sent at once.
	exportPiece = 512 << 10
)

// export is a stream of what is stored of sessions.
type export struct {
	deps Deps
	send func(*pawlv1.ExportSessionResponse) error
}

// ExportSession implements SessionService.
func (s *sessions) ExportSession(
	req *pawlv1.ExportSessionRequest, stream grpc.ServerStreamingServer[pawlv1.ExportSessionResponse],
) error {
	one, err := s.deps.find(stream.Context(), req.GetSessionId())
	if err != nil {
		return err
	}
	return export{s.deps, stream.Send}.session(stream.Context(), one)
}

// session exports a session and those of its sub-agents, which are only as deep as sub-agents may be.
func (x export) session(ctx context.Context, one session.Session) error {
	if err := x.send(&pawlv1.ExportSessionResponse{
		Item: &pawlv1.ExportSessionResponse_Session{Session: encodeSession(one)},
	}); err != nil {
		return err
	}
	images := exported{}
	if err := x.entries(ctx, one, images); err != nil {
		return err
	}
	if err := x.submissions(ctx, one.ID, images); err != nil {
		return err
	}
	f := session.Filter{Tenant: one.Key.Tenant, ParentID: one.ID, Limit: exportPage}
	for {
		page, err := x.deps.Sessions.ListSessions(ctx, f)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, child := range page {
			if err := x.session(ctx, child); err != nil {
				return err
			}
			f.BeforeID = child.ID
		}
	}
}

// exported are the hashes of the images of a session that were exported. They take a thousandth of what the images do.
type exported map[[session.HashSize]byte]bool

// images exports those that a message names and that were not exported. One that is gone is left out.
func (x export) images(ctx context.Context, sessionID string, m model.Message, done exported) error {
	for _, b := range m.Content {
		var sum [session.HashSize]byte
		if b.Image == nil || len(b.Image.Data) > 0 {
			continue
		}
		if n, err := hex.Decode(sum[:], []byte(b.Image.SHA256)); err != nil || n != len(sum) || done[sum] {
			continue
		}
		done[sum] = true
		data, err := x.deps.Sessions.Image(ctx, sessionID, b.Image.SHA256)
		if errors.Is(err, session.ErrNoImage) {
			continue
		}
		if err != nil {
			return err
		}
		for at := 0; at < len(data); at += exportPiece {
			if err := x.send(&pawlv1.ExportSessionResponse{
				Item: &pawlv1.ExportSessionResponse_Image{Image: &pawlv1.ExportedImage{
					Sha256: b.Image.SHA256, MediaType: b.Image.MediaType, Size: int64(len(data)), Offset: int64(at),
					Data: data[at:min(at+exportPiece, len(data))],
				}},
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// entries exports the entries of a session and, after the last answer of a loop, its calls. What a fork shares are
// calls of others.
func (x export) entries(ctx context.Context, of session.Session, images exported) error {
	loop := ""
	for after := int64(0); ; {
		page, err := x.deps.entries(ctx, of, after, exportEntries)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return x.calls(ctx, loop)
		}
		for i := range page {
			e := &page[i]
			if e.Kind == session.Assistant && e.Seq > of.ForkedAt && e.SubmissionID != loop {
				if err := x.calls(ctx, loop); err != nil {
					return err
				}
				loop = e.SubmissionID
			}
			if err := x.send(&pawlv1.ExportSessionResponse{
				Item: &pawlv1.ExportSessionResponse_Entry{Entry: encodeEntry(e)},
			}); err != nil {
				return err
			}
			if err := x.images(ctx, of.ID, e.Message, images); err != nil {
				return err
			}
			after = e.Seq
		}
	}
}

func (x export) submissions(ctx context.Context, id string, images exported) error {
	for before := int64(0); ; {
		page, err := x.deps.Submissions.ListSubmissions(ctx, id, before, submissionsAtOnce)
		if err == nil && len(page) == 0 && before > 1 { // the first one is 1
			err = session.ErrNotFound.With("the session is gone: it was deleted")
		}
		if err != nil || len(page) == 0 {
			return err
		}
		for _, sub := range page {
			before = sub.Seq
			if sub, err = x.deps.Service.Fill(ctx, sub); err != nil {
				return err
			}
			if err := x.send(&pawlv1.ExportSessionResponse{
				Item: &pawlv1.ExportSessionResponse_Submission{Submission: encodeSubmission(sub)},
			}); err != nil {
				return err
			}
			if err := x.input(ctx, sub, images); err != nil {
				return err
			}
		}
		if before == 1 {
			return nil
		}
	}
}

// input exports the input of a submission that has not begun. One that cannot be read is left out.
func (x export) input(ctx context.Context, sub submission.Submission, images exported) error {
	if sub.Status != submission.Queued {
		return nil
	}
	m, err := x.deps.Service.InputOf(ctx, sub)
	if err != nil || len(m.Content) == 0 {
		return err
	}
	if err := x.send(&pawlv1.ExportSessionResponse{Item: &pawlv1.ExportSessionResponse_Input{
		Input: &pawlv1.ExportedInput{SubmissionId: sub.ID, Message: encodeMessage(m)},
	}}); err != nil {
		return err
	}
	return x.images(ctx, sub.SessionID, m, images)
}

// calls exports the records of the calls of a loop, "" for none.
func (x export) calls(ctx context.Context, loop string) error {
	for turn, index := 0, -1; loop != ""; {
		page, err := x.deps.Calls.LoopCalls(ctx, loop, turn, index, exportCalls)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, c := range page {
			if err := x.send(&pawlv1.ExportSessionResponse{
				Item: &pawlv1.ExportSessionResponse_Call{Call: encodeRecord(c)},
			}); err != nil {
				return err
			}
			turn, index = c.Turn, c.Index
		}
	}
	return nil
}

func encodeRecord(c call.Call) *pawlv1.ExportedCall {
	return &pawlv1.ExportedCall{
		CallId: c.ID, SubmissionId: c.LoopID, Turn: int32(c.Turn), Index: int32(c.Index), EntrySeq: c.EntrySeq,
		ToolCallId: clean(c.ProviderID), Name: clean(c.Tool), ExecutorId: c.Executor, State: c.State.String(),
		CreatedAt: stamp(c.CreatedAt), DoneAt: stamp(c.DoneAt),
	}
}
