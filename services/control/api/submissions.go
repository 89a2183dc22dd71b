package api

import (
	"context"
	"encoding/json"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool/result"
)

type submissions struct {
	pawlv1.UnimplementedSubmissionServiceServer
	deps Deps
}

// prompt is a request of Submit or Prompt.
type prompt interface {
	GetKey() *pawlv1.SessionKey
	GetMessage() string
	GetIdempotencyKey() string
	GetOnBehalfOf() string
	GetImages() []*pawlv1.Image
	GetFiles() []string
	GetResultSchema() *structpb.Struct
	GetWhenBusy() pawlv1.WhenBusy
	GetSkill() *pawlv1.SkillCall
}

// input is a prompt that the caller may make.
func (s *submissions) input(ctx context.Context, req prompt) (submission.Input, error) {
	in := submission.Input{
		Key: decodeKey(ctx, req.GetKey()), Message: req.GetMessage(), IdempotencyKey: req.GetIdempotencyKey(),
	}
	err := may(ctx, auth.Prompt, auth.Resource{Agent: in.Key.Agent, Missing: agent.Missing(in.Key.Agent)})
	if err != nil {
		return in, s.deps.withKnown(ctx, err)
	}
	if w := req.GetWhenBusy(); w < 0 || w > pawlv1.WhenBusy_WHEN_BUSY_INTERRUPT {
		return in, submission.ErrWhenBusy
	} else if w > 0 {
		in.WhenBusy = submission.WhenBusy(w - 1)
	}
	if err := may(ctx, auth.Prompt, auth.Resource{Instance: in.Key.Instance}); err != nil {
		return in, err
	}
	in.Files = req.GetFiles()
	for _, i := range req.GetImages() {
		in.Images = append(in.Images, i.GetData())
	}
	if in.Options, err = decodeOptions(req); err != nil {
		return in, err
	}
	if in.By, err = auth.FromContext(ctx).Speaker(req.GetOnBehalfOf()); err == nil {
		in.Record = allowed(ctx)
	}
	return in, err
}

// decodeOptions is what a prompt asks for beside its message.
func decodeOptions(req prompt) (o lane.Options, err error) {
	if o.Skill, err = decodeSkill(req.GetSkill()); err != nil {
		return o, err
	}
	if s := req.GetResultSchema(); s != nil {
		// The JSON of protobuf is spaced differently by each build, and the schema is in what providers cache.
		if o.ResultSchema, err = json.Marshal(s.AsMap()); err != nil {
			return o, result.ErrSchema
		}
	}
	return o, nil
}

// Submit implements SubmissionService.
func (s *submissions) Submit(ctx context.Context, req *pawlv1.SubmitRequest) (*pawlv1.SubmitResponse, error) {
	in, err := s.input(ctx, req)
	if err != nil {
		return nil, err
	}
	got, err := s.deps.Service.Submit(ctx, in)
	if err != nil {
		return nil, s.deps.withKnown(ctx, err)
	}
	return &pawlv1.SubmitResponse{Submission: encodeSubmission(got.Submission), Replayed: got.Replayed}, nil
}

// Prompt implements SubmissionService.
func (s *submissions) Prompt(
	req *pawlv1.PromptRequest, stream grpc.ServerStreamingServer[pawlv1.PromptResponse],
) error {
	ctx := stream.Context()
	in, err := s.input(ctx, req)
	if err != nil {
		return err
	}
	f, err := s.deps.Service.Prompt(ctx, in)
	if err != nil {
		return s.deps.withKnown(ctx, err)
	}
	defer f.Close()
	if err := onRecord(ctx); err != nil {
		return err
	}
	if err := stream.Send(&pawlv1.PromptResponse{Submission: encodeSubmission(f.Submission)}); err != nil {
		return err
	}
	of := session.Session{ID: f.Submission.SessionID, Key: f.Submission.Key}
	for batch, err := range f.Events(ctx) {
		if err != nil {
			return err
		}
		err := sendEvents(batch, of, func(events []*pawlv1.Event) error { return stream.Send(&pawlv1.PromptResponse{Events: events}) })
		if err != nil {
			return err
		}
	}
	if s := f.Submission; s.Status == submission.SettledStatus && !f.Told {
		// It was aborted before it began and left no event, or its events were deleted: the caller is told the same way
		// all the same, without a seq.
		return stream.Send(&pawlv1.PromptResponse{Events: []*pawlv1.Event{{
			SubmissionId: s.ID, Time: stamp(s.SettledAt), Event: &pawlv1.Event_Settled{Settled: &pawlv1.SubmissionSettled{Submission: encodeSubmission(s)}},
		}}})
	}
	if f.Submission.Status == submission.SettledStatus {
		return nil
	}
	return context.Cause(ctx)
}

// WaitSubmission implements SubmissionService.
func (s *submissions) WaitSubmission(
	ctx context.Context, req *pawlv1.WaitSubmissionRequest,
) (*pawlv1.WaitSubmissionResponse, error) {
	if _, err := s.find(ctx, req.GetSubmissionId(), auth.ReadSessions); err != nil {
		return nil, err
	}
	limit := submission.Forever
	if req.GetTimeout() != nil {
		limit = req.GetTimeout().AsDuration()
	}
	got, err := s.deps.Service.Wait(ctx, tenant(ctx), req.GetSubmissionId(), limit)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // its token may have ended
	}
	if err != nil {
		return nil, err
	}
	return &pawlv1.WaitSubmissionResponse{Submission: encodeSubmission(got)}, nil
}

// find is a submission that the caller may see.
func (s *submissions) find(ctx context.Context, id string, v auth.Verb) (submission.Submission, error) {
	if err := may(ctx, v, auth.Resource{}); err != nil {
		return submission.Submission{}, err
	}
	if err := checkID(id, submission.ErrNotFound); err != nil {
		return submission.Submission{}, err
	}
	got, err := s.deps.Service.Get(ctx, tenant(ctx), id)
	if err == nil {
		err = may(ctx, v, auth.Resource{
			Agent: got.Key.Agent, Instance: got.Key.Instance, Missing: submission.ErrNotFound,
		})
	}
	if err != nil {
		return submission.Submission{}, err
	}
	return got, nil
}

// GetSubmission implements SubmissionService.
func (s *submissions) GetSubmission(
	ctx context.Context, req *pawlv1.GetSubmissionRequest,
) (*pawlv1.GetSubmissionResponse, error) {
	got, err := s.find(ctx, req.GetSubmissionId(), auth.ReadSessions)
	if err != nil {
		return nil, err
	}
	return &pawlv1.GetSubmissionResponse{Submission: encodeSubmission(got)}, nil
}

// ListSubmissions implements SubmissionService.
func (s *submissions) ListSubmissions(
	ctx context.Context, req *pawlv1.ListSubmissionsRequest,
) (*pawlv1.ListSubmissionsResponse, error) {
	one, err := s.deps.find(ctx, req.GetSessionId())
	if err != nil {
		return nil, err
	}
	limit, before, err := submissionsPage(req)
	if err != nil {
		return nil, err
	}
	out := &pawlv1.ListSubmissionsResponse{}
	weight := 0
	for more := true; more && len(out.Submissions) < limit; {
		some := min(limit-len(out.Submissions), submissionsAtOnce)
		page, err := s.deps.Submissions.ListSubmissions(ctx, one.ID, before, some)
		if err != nil {
			return nil, err
		}
		more = len(page) == some
		for _, sub := range page {
			if sub, err = s.deps.Service.Fill(ctx, sub); err != nil {
				return nil, err
			}
			if weight += len(sub.Text) + len(sub.Data); weight > maxWeight && len(out.Submissions) > 0 {
				out.NextPageToken = strconv.FormatInt(before, 10)
				return out, nil
			}
			out.Submissions, before = append(out.Submissions, encodeSubmission(sub)), sub.Seq
		}
	}
	// The first one is 1, and no page comes after it.
	if len(out.Submissions) == limit && before > 1 {
		out.NextPageToken = strconv.FormatInt(before, 10)
	}
	return out, nil
}

// submissionsAtOnce is how many submissions are read at once. Each may have a result and a schema.
const submissionsAtOnce = 32

// submissionsPage is the size of a page, and the seq that its submissions are below, 0 for none. A token of a page is
// the seq of its last submission.
func submissionsPage(req *pawlv1.ListSubmissionsRequest) (limit int, before int64, err error) {
	if limit, err = pageSize(req.GetPageSize()); err != nil {
		return 0, 0, err
	}
	if before = req.GetBefore(); before < 0 {
		return 0, 0, errBefore
	}
	if t := req.GetPageToken(); t != "" {
		last, err := strconv.ParseInt(t, 10, 64)
		if err != nil || last < 1 {
			return 0, 0, errPageToken
		}
		if before == 0 || last < before {
			before = last
		}
	}
	return limit, before, nil
}

// AbortSubmission implements SubmissionService.
func (s *submissions) AbortSubmission(
	ctx context.Context, req *pawlv1.AbortSubmissionRequest,
) (*pawlv1.AbortSubmissionResponse, error) {
	if _, err := s.find(ctx, req.GetSubmissionId(), auth.Abort); err != nil {
		return nil, err
	}
	got, err := s.deps.Service.Abort(ctx, tenant(ctx), req.GetSubmissionId())
	if err != nil {
		return nil, err
	}
	return &pawlv1.AbortSubmissionResponse{Submission: encodeSubmission(got)}, nil
}

// AbortSession implements SubmissionService.
func (s *submissions) AbortSession(
	ctx context.Context, req *pawlv1.AbortSessionRequest,
) (*pawlv1.AbortSessionResponse, error) {
	one, err := s.deps.find(ctx, req.GetSessionId())
	if err == nil {
		err = may(ctx, auth.Abort, auth.Resource{
			Agent: one.Key.Agent, Instance: one.Key.Instance, Missing: session.ErrNotFound,
		})
	}
	if err == nil && one.ParentID != "" {
		err = submission.ErrSubAgent.With("a sub-agent is aborted with the session that it works for: abort that")
	}
	if err != nil {
		return nil, err
	}
	settled, running, err := s.deps.Service.AbortSession(ctx, tenant(ctx), one.ID)
	if err != nil {
		return nil, err
	}
	out := &pawlv1.AbortSessionResponse{Settled: int32(settled)}
	if running != nil {
		out.Running = encodeSubmission(*running)
	}
	return out, nil
}

// Shell implements SubmissionService.
func (s *submissions) Shell(ctx context.Context, req *pawlv1.ShellRequest) (*pawlv1.ShellResponse, error) {
	if err := may(ctx, auth.RunCommands, auth.Resource{}); err != nil {
		return nil, err
	}
	one, err := s.deps.find(ctx, req.GetSessionId())
	if err == nil {
		err = may(ctx, auth.RunCommands, auth.Resource{
			Agent: one.Key.Agent, Instance: one.Key.Instance, Missing: session.ErrNotFound,
		})
	}
	if err == nil && one.ParentID != "" {
		err = submission.ErrSubAgent
	}
	if err != nil {
		return nil, err
	}
	if req.GetTimeout() != nil && req.GetTimeout().AsDuration() <= 0 {
		return nil, submission.ErrShellTimeout
	}
	in := submission.Input{Key: one.Key, SessionID: one.ID, IdempotencyKey: req.GetIdempotencyKey()}
	if in.By, err = auth.FromContext(ctx).Speaker(req.GetOnBehalfOf()); err != nil {
		return nil, err
	}
	in.Record = allowed(ctx)
	got, err := s.deps.Service.Shell(ctx, in, submission.Command{
		Text: req.GetCommand(), Cwd: req.GetCwd(), Timeout: req.GetTimeout().AsDuration(),
	})
	if err != nil {
		return nil, s.deps.withKnown(ctx, err)
	}
	return &pawlv1.ShellResponse{Submission: encodeSubmission(got.Submission), Replayed: got.Replayed}, nil
}
