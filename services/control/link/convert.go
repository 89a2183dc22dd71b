package link

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/mcpclient"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/mcp"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// encode is the frame of a message.
func encode(m call.Message) *pawlv1.ConnectResponse {
	switch m := m.(type) {
	case *call.Order:
		return &pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Execute{Execute: encodeOrder(m)}}
	case *call.Attach:
		return &pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Attach{Attach: &pawlv1.Attach{
			CallId: m.CallID, LaneId: m.LaneID, Epoch: m.Epoch, Dispatch: uint32(m.Dispatch),
			StdoutFrom: m.StdoutFrom, StderrFrom: m.StderrFrom,
		}}}
	case *call.Cancel:
		return &pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Cancel{Cancel: &pawlv1.Cancel{
			CallId: m.CallID, LaneId: m.LaneID, Epoch: m.Epoch, Grace: durationpb.New(m.Grace),
		}}}
	case *call.ResultAck:
		return &pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_ResultAck{
			ResultAck: &pawlv1.ResultAck{CallId: m.CallID},
		}}
	case *call.OutputAck:
		s := pawlv1.Stream_STREAM_STDOUT
		if m.Stderr {
			s = pawlv1.Stream_STREAM_STDERR
		}
		return &pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_OutputAck{
			OutputAck: &pawlv1.OutputAck{CallId: m.CallID, Stream: s, Upto: m.Upto},
		}}
	}
	panic("link: a message without a frame")
}

func encodeOrder(o *call.Order) *pawlv1.Execute {
	x := &pawlv1.Execute{
		CallId: o.Call.ID, LaneId: o.LaneID, Epoch: o.Epoch, Dispatch: uint32(o.Call.Dispatch),
		Safety: encodeSafety(o.Call.Safety), ArgsSha256: o.Call.ArgsHash, Cwd: o.Cwd, Env: map[string]string{},
	}
	for _, name := range slices.Sorted(maps.Keys(o.Env)) {
		if v := o.Env[name]; v != nil {
			x.Env[name] = *v
		} else {
			x.UnsetEnv = append(x.UnsetEnv, name)
		}
	}
	if o.Timeout > 0 {
		x.Timeout = durationpb.New(o.Timeout)
	}
	switch q := o.Request.(type) {
	case tool.ReadText:
		x.Verb = &pawlv1.Execute_ReadText{ReadText: &pawlv1.ReadText{Path: q.Path, Offset: q.Offset, Limit: q.Limit}}
	case tool.WriteFile:
		x.Verb = &pawlv1.Execute_WriteFile{WriteFile: &pawlv1.WriteFile{Path: q.Path, Content: q.Content, Mode: q.Mode}}
	case tool.ReadFile:
		x.Verb = &pawlv1.Execute_ReadWhole{ReadWhole: &pawlv1.ReadWhole{Path: q.Path}}
	case tool.EditFile:
		x.Verb = &pawlv1.Execute_EditFile{EditFile: &pawlv1.EditFile{
			Path: q.Path, OldText: q.Old, NewText: q.New,
			ReplaceAll: q.ReplaceAll,
		}}
	case tool.Exec:
		e := &pawlv1.Exec{
			Command: q.Command, Cwd: q.Cwd, Input: q.Input, Env: q.Env, StdoutImage: q.Image, Whole: q.Whole,
		}
		if q.TimeoutSeconds > 0 {
			e.Timeout = durationpb.New(time.Duration(q.TimeoutSeconds * float64(time.Second)))
		}
		x.Verb = &pawlv1.Execute_Exec{Exec: e}
	case tool.Grep:
		x.Verb = &pawlv1.Execute_Grep{Grep: &pawlv1.Grep{
			Pattern: q.Pattern, Path: q.Path, Include: q.Include,
			Literal: q.Literal, IgnoreCase: q.IgnoreCase,
		}}
	case tool.ServerCall:
		x.Verb = &pawlv1.Execute_Mcp{Mcp: McpRequest(q)}
		if left := x.GetTimeout().AsDuration(); q.Timeout > 0 && (left == 0 || q.Timeout < left) {
			x.Timeout = durationpb.New(q.Timeout)
		}
	case tool.Glob:
		x.Verb = &pawlv1.Execute_Glob{Glob: &pawlv1.Glob{Pattern: q.Pattern, Path: q.Path}}
	case tool.CallTool:
		x.Verb = &pawlv1.Execute_CallTool{CallTool: &pawlv1.CallTool{Name: q.Tool, ArgsJson: string(q.Args)}}
		if q.Timeout > 0 && (o.Timeout <= 0 || q.Timeout < o.Timeout) {
			x.Timeout = durationpb.New(q.Timeout)
		}
	}
	return x
}

// McpRequest is a request to an MCP server as executors take it.
func McpRequest(q tool.ServerCall) *pawlv1.McpRequest {
	out := &pawlv1.McpRequest{
		ServerId: q.ID, Name: q.Name, Program: q.Program, Args: q.Args, Cwd: q.Cwd, Method: q.Method, Params: q.Params,
	}
	if p := q.Plugin; p != nil {
		out.Plugin = &pawlv1.McpPlugin{Root: p.Root, Data: p.Data, Env: p.Env}
	}
	return out
}

func encodeSafety(s tool.Safety) pawlv1.Safety {
	switch s {
	case tool.Pure:
		return pawlv1.Safety_SAFETY_PURE
	case tool.Idempotent:
		return pawlv1.Safety_SAFETY_IDEMPOTENT
	}
	return pawlv1.Safety_SAFETY_AT_MOST_ONCE
}

// report is what a frame says of a call; ok is false for frames about the connection.
func report(executor string, req *pawlv1.ConnectRequest) (r call.Report, ok bool) {
	r.Executor = executor
	switch f := req.GetFrame().(type) {
	case *pawlv1.ConnectRequest_Accepted:
		r.CallID, r.Body = f.Accepted.GetCallId(), call.Accepted{}
	case *pawlv1.ConnectRequest_Rejected:
		r.CallID = f.Rejected.GetCallId()
		r.Body = call.Rejected{
			Epoch: f.Rejected.GetEpoch(), Known: f.Rejected.GetKnownEpoch(),
			Reason: rejection(f.Rejected.GetReason()), Message: f.Rejected.GetMessage(),
		}
	case *pawlv1.ConnectRequest_Output:
		if f.Output.GetStream() == pawlv1.Stream_STREAM_FILE {
			return r, false
		}
		r.CallID = f.Output.GetCallId()
		r.Body = call.Output{
			Stderr: f.Output.GetStream() == pawlv1.Stream_STREAM_STDERR, Offset: f.Output.GetOffset(),
			Data: f.Output.GetData(),
		}
	case *pawlv1.ConnectRequest_Status:
		s := f.Status
		r.CallID, r.LaneID = s.GetCall().GetCallId(), s.GetCall().GetLaneId()
		r.Body = call.Found{
			State: found(s.GetCall().GetState()), Dispatch: int(s.GetDispatch()),
			Journal: s.GetJournalId(),
		}
	case *pawlv1.ConnectRequest_Progress:
		r.CallID = f.Progress.GetCallId()
		r.Body = call.Progress{
			Progress: f.Progress.GetProgress(), Total: f.Progress.GetTotal(), Message: f.Progress.GetMessage(),
		}
	case *pawlv1.ConnectRequest_Result:
		r.CallID, r.LaneID = f.Result.GetCallId(), f.Result.GetLaneId()
		r.Body = call.Ended{Reply: decodeReply(f.Result)}
	default:
		return r, false
	}
	return r, true
}

// rejection names a reason as package call does. One that this version does not know says no more than that it was
// refused.
func rejection(r pawlv1.Rejected_Reason) string {
	if _, known := pawlv1.Rejected_Reason_name[int32(r)]; !known || r == pawlv1.Rejected_REASON_UNSPECIFIED {
		return "UNSUPPORTED"
	}
	return strings.TrimPrefix(r.String(), "REASON_")
}

func found(s pawlv1.State) call.FoundState {
	switch s {
	case pawlv1.State_STATE_RUNNING:
		return call.RunningThere
	case pawlv1.State_STATE_FINISHED:
		return call.FinishedThere
	case pawlv1.State_STATE_INTERRUPTED:
		return call.InterruptedThere
	case pawlv1.State_STATE_TOMBSTONE:
		return call.TombstoneThere
	}
	return call.Unknown
}

// decodeReply is what a result says.
func decodeReply(res *pawlv1.Result) tool.Reply {
	switch o := res.GetOutcome().(type) {
	case *pawlv1.Result_File:
		return tool.WriteReply{Size: o.File.GetSize(), SHA256: o.File.GetSha256()}
	case *pawlv1.Result_Content:
		return tool.FileReply{Content: o.Content.GetContent(), SHA256: o.Content.GetSha256()}
	case *pawlv1.Result_Exec:
		x := o.Exec
		return tool.ExecReply{
			ExitCode: int(x.GetExitCode()), Stdout: captured(x.GetStdout()), Stderr: captured(x.GetStderr()),
			TimedOut: x.GetTimedOut(), Cancelled: x.GetCancelled(), Confirmed: x.GetConfirmed(),
			Leftovers: int(x.GetLeftovers()), Image: x.GetImage(), Whole: x.GetWhole(),
		}
	case *pawlv1.Result_Text:
		t := o.Text
		return tool.TextReply{
			Content: t.GetContent(), FirstLine: t.GetFirstLine(), TotalLines: t.GetTotalLines(), LineCut: t.GetLineCut(),
			Binary: t.GetBinary(), MediaType: t.GetMediaType(), Image: t.GetImage(), IsDir: t.GetIsDir(),
			Entries: t.GetEntries(), Size: t.GetSize(),
		}
	case *pawlv1.Result_Edit:
		return tool.EditReply{
			Replacements: int(o.Edit.GetReplacements()), Diff: o.Edit.GetDiff(),
			Note: o.Edit.GetNote(),
		}
	case *pawlv1.Result_Grep:
		r := tool.GrepReply{Total: o.Grep.GetTotal(), Note: o.Grep.GetNote()}
		for _, m := range o.Grep.GetMatches() {
			r.Matches = append(r.Matches, tool.Match{Path: m.GetPath(), Line: m.GetLine(), Text: m.GetText()})
		}
		return r
	case *pawlv1.Result_Glob:
		return tool.GlobReply{Paths: o.Glob.GetPaths(), Truncated: o.Glob.GetTruncated(), Note: o.Glob.GetNote()}
	case *pawlv1.Result_CallTool:
		t := o.CallTool
		said := tool.Said{
			Text: t.GetText(), Structured: json.RawMessage(t.GetStructuredJson()), Images: t.GetImages(),
			IsError: t.GetIsError(),
		}
		if problem := said.Problem(); problem != "" {
			return tool.Failure{Reason: "RESULT_INVALID", Message: "the tool has run, and " + problem}
		}
		return said
	case *pawlv1.Result_Mcp:
		return decodeServerReply(o.Mcp)
	case *pawlv1.Result_Failure:
		return tool.Failure{Reason: o.Failure.GetReason(), Message: o.Failure.GetMessage()}
	}
	return tool.Failure{Reason: "INTERNAL", Message: "the executor sent a result of an unexpected kind"}
}

// decodeServerReply is what a server has answered.
func decodeServerReply(r *pawlv1.McpResult) tool.Reply {
	if r.GetError() != "" || r.GetErrorCode() != 0 {
		return mcp.Refused(r.GetMethod(), r.GetErrorCode(), r.GetError())
	}
	reply, err := mcp.Read(r.GetMethod(), mcpclient.Result{JSON: r.GetResult(), Declined: r.GetDeclined()})
	if e, ok := errs.Public(err); ok {
		return tool.Failure{Reason: e.Reason(), Message: e.Error()}
	}
	return reply
}

func captured(c *pawlv1.Captured) tool.Captured {
	return tool.Captured{Head: c.GetHead(), Tail: c.GetTail(), Cut: c.GetCut(), Size: c.GetSize(), Error: c.GetError()}
}
