package api

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// clean is a text on the wire, which refuses what is not UTF-8. Providers and commands are not so particular.
func clean(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// stamp is a time on the wire; none for the zero time.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func decodeKey(ctx context.Context, k *pawlv1.SessionKey) session.Key {
	name := k.GetSession()
	if name == "" {
		name = session.DefaultName
	}
	return session.Key{Tenant: tenant(ctx), Agent: k.GetAgent(), Instance: k.GetInstance(), Name: name}
}

func encodeKey(k session.Key) *pawlv1.SessionKey {
	return &pawlv1.SessionKey{Agent: k.Agent, Instance: k.Instance, Session: k.Name}
}

func encodeSession(s session.Session) *pawlv1.Session {
	out := &pawlv1.Session{
		SessionId: s.ID, Key: encodeKey(s.Key), CreatedAt: stamp(s.CreatedAt), EntryHead: s.EntryHead, EventHead: s.EventHead,
		Pending: int32(s.Pending), ExecutorId: s.Executor, ParentSessionId: s.ParentID, ParentCallId: s.ParentCall,
		Labels: s.Labels, Metadata: encodeStruct(s.Metadata), RewoundToSessionId: s.RewoundTo,
	}
	if s.ForkedFrom != "" {
		out.ForkedFrom = &pawlv1.ForkPoint{SessionId: s.ForkedFrom, EntrySeq: s.ForkedAt}
	}
	return out
}

func encodeEntry(e *session.Entry) *pawlv1.Entry {
	if e == nil {
		return nil
	}
	out := &pawlv1.Entry{
		Seq: e.Seq, SubmissionId: e.SubmissionID, Kind: string(e.Kind),
		Message: encodeMessage(e.Message), CreatedAt: stamp(e.CreatedAt), AskedBy: encodeSpeaker(e.Message.From),
	}
	if r := e.Range(); e.Kind == session.Summary {
		out.Summarizes = &pawlv1.EntryRange{From: r.From, To: r.To}
	}
	return out
}

func encodeSpeaker(s *model.Speaker) *pawlv1.Speaker {
	if s == nil {
		return nil
	}
	return &pawlv1.Speaker{TokenId: s.TokenID, Name: clean(s.Name), OnBehalfOf: clean(s.OnBehalfOf)}
}

func encodeMessage(m model.Message) *pawlv1.Message {
	out := &pawlv1.Message{Role: string(m.Role), Stop: string(m.Stop), Content: encodeAll(m.Content, encodeBlock)}
	if m.Model != nil {
		out.Model = m.Model.String()
	}
	if m.Usage != nil {
		out.Usage = encodeUsage(*m.Usage)
	}
	return out
}

func encodeBlock(b model.Block) *pawlv1.Block {
	switch b.Type {
	case model.ThinkingBlock:
		return &pawlv1.Block{Block: &pawlv1.Block_Thinking{Thinking: &pawlv1.Thinking{Text: clean(b.Text)}}}
	case model.ToolCallBlock:
		return &pawlv1.Block{Block: &pawlv1.Block_ToolCall{ToolCall: &pawlv1.ToolCall{
			Id:   clean(b.CallID),
			Name: clean(b.Tool), Args: encodeStruct(b.Args),
		}}}
	case model.ToolResultBlock:
		return &pawlv1.Block{Block: &pawlv1.Block_ToolResult{ToolResult: &pawlv1.ToolResult{
			Id: clean(b.CallID), Name: clean(b.Tool), Text: clean(b.Text), IsError: b.IsError, Image: encodeImage(b.Image), Details: encodeStruct(b.Details),
		}}}
	case model.FileBlock:
		return &pawlv1.Block{Block: &pawlv1.Block_File{File: clean(b.Text)}}
	case model.ImageBlock:
		return &pawlv1.Block{Block: &pawlv1.Block_Image{Image: encodeImage(b.Image)}}
	}
	return &pawlv1.Block{Block: &pawlv1.Block_Text{Text: clean(b.Text)}}
}

func encodeImage(i *model.Image) *pawlv1.Image {
	if i == nil {
		return nil
	}
	return &pawlv1.Image{MediaType: i.MediaType, Data: i.Data, Size: int64(i.Bytes()), Sha256: i.SHA256}
}

// encodeStruct is a JSON object on the wire. A model may write arguments that are no object: they are left out here and
// refused by the tool, whose result says so.
func encodeStruct(raw json.RawMessage) *structpb.Struct {
	var fields map[string]any
	if len(raw) == 0 || json.Unmarshal(raw, &fields) != nil {
		return nil
	}
	s, err := structpb.NewStruct(fields)
	if err != nil {
		return nil
	}
	return s
}

// encodeValue is a JSON value on the wire; none for none.
func encodeValue(raw json.RawMessage) *structpb.Value {
	var v any
	if len(raw) == 0 || json.Unmarshal(raw, &v) != nil {
		return nil
	}
	value, err := structpb.NewValue(v)
	if err != nil {
		return nil
	}
	return value
}

func encodeUsage(u model.Usage) *pawlv1.Usage {
	return &pawlv1.Usage{
		Input: u.Input, Output: u.Output, CacheRead: u.CacheRead, CacheWrite: u.CacheWrite,
		CostInput: u.Cost.Input, CostOutput: u.Cost.Output, CostCacheRead: u.Cost.CacheRead, CostCacheWrite: u.Cost.CacheWrite,
		Searches: u.Searches, CostSearch: u.Cost.Search,
	}
}

func encodeSubmission(s submission.Submission) *pawlv1.Submission {
	out := &pawlv1.Submission{
		SubmissionId: s.ID, SessionId: s.SessionID, Key: encodeKey(s.Key), Seq: s.Seq, Status: pawlv1.Submission_Status(s.Status + 1),
		Outcome: encodeOutcome(s.Outcome), AcceptedAt: stamp(s.AcceptedAt), StartedAt: stamp(s.StartedAt), SettledAt: stamp(s.SettledAt),
		AbortRequested: s.AbortRequested, AgentDigest: s.AgentDigest, Turn: int32(s.Turn), Attempts: int32(s.Attempts),
		AskedBy: encodeSpeaker(s.AskedBy), Skill: encodeSkill(s.Options.Skill),
		WhenBusy: pawlv1.WhenBusy(s.WhenBusy + 1), HostSubmissionId: s.Host,
	}
	if s.Status == submission.Joined {
		out.Status = pawlv1.Submission_STATUS_RUNNING
	}
	if s.Status != submission.SettledStatus {
		return out
	}
	if s.Outcome != lane.Completed {
		out.Error = &pawlv1.Error{Reason: s.Reason, Message: clean(s.Message)}
	}
	out.Cancellation = encodeCancellation(s.Cancellation)
	out.Result = &pawlv1.PromptResult{
		Text: clean(s.Text), Usage: encodeUsage(s.Usage), Model: s.Model, Data: encodeValue(s.Data),
	}
	return out
}

func encodeCancellation(c *call.Cancellation) *pawlv1.Cancellation {
	if c == nil {
		return nil
	}
	out := &pawlv1.Cancellation{Confirmed: c.Confirmed, More: int32(c.More)}
	for _, u := range c.Unconfirmed {
		out.Unconfirmed = append(out.Unconfirmed, &pawlv1.UnconfirmedCall{
			CallId: u.CallID, Name: clean(u.Tool), ExecutorId: u.Executor, Reason: u.Reason, Message: clean(u.Message),
		})
	}
	return out
}

// encodeOutcome names an outcome as the API does; none while there is none.
func encodeOutcome(o lane.Outcome) pawlv1.Outcome {
	return pawlv1.Outcome(pawlv1.Outcome_value["OUTCOME_"+strings.ToUpper(string(o))])
}
