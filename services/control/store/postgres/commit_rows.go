package postgres

import (
	"cmp"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
)

// laneRow is a commit, as far as its lane and its stream are concerned.
type laneRow struct {
	*commit
	ord int32
}

var laneTable = table[laneRow]{
	col("ord", "int", func(r *laneRow) int32 { return r.ord }),
	col("lane_id", "uuid", func(r *laneRow) string { return r.Fence.LaneID }),
	col("epoch", "bigint", func(r *laneRow) int64 { return r.Fence.Epoch }),
	col("kind", "smallint", func(r *laneRow) int16 { return int16(max(r.Kind, lane.KindSession)) }),
	col("event_head", "bigint", func(r *laneRow) int64 { return r.EventHead }),
	col("events", "int", func(r *laneRow) int32 { return int32(r.segment.Last - r.EventHead) }),
	col("ended", "text", func(r *laneRow) *string { return optional(r.ended) }),
	col("joins", "int", func(r *laneRow) int32 { return r.joins }),
	col("continues", "bool", func(r *laneRow) bool { return r.Continue }),
	col("mail", "bigint", func(r *laneRow) *int64 {
		if r.Park == nil {
			return nil
		}
		return &r.Park.Mail
	}),
	col("rests_us", "bigint", func(r *laneRow) *int64 {
		if r.Park == nil || r.Park.For >= longest {
			return nil
		}
		us := micros(r.Park.For)
		return &us
	}),
	col("commit_id", "uuid", func(r *laneRow) string { return r.ID }),
	col("segment_kind", "smallint", func(r *laneRow) int16 { return int16(r.segment.Kind) }),
	col("segment", "bytea", func(r *laneRow) []byte { return r.segment.Body }),
}

var bindTable = table[laneRow]{
	col("lane_id", "uuid", func(r *laneRow) string { return r.Fence.LaneID }),
	col("executor", "text", func(r *laneRow) string { return r.Executor }),
}

// longest is how far ahead a time is that is as good as never, and that the database can still add to its clock.
const longest = 100 * 365 * 24 * time.Hour

// stepRow is the facts of a loop that are written to its row.
type stepRow struct {
	*step
	lane string
}

func (r *stepRow) progress() lane.Progress { return value(r.Progress) }

func (r *stepRow) end() lane.Settlement { return value(r.End) }

var loopTable = table[stepRow]{
	col("lane_id", "uuid", func(r *stepRow) string { return r.lane }),
	col("session_id", "uuid", func(r *stepRow) string { return r.SessionID }),
	col("loop_id", "uuid", func(r *stepRow) string { return r.LoopID }),
	col("writes", "bool", func(r *stepRow) bool { return r.writes() }),
	col("entry_head", "bigint", func(r *stepRow) int64 { return r.EntryHead }),
	col("entries", "int", func(r *stepRow) int32 { return int32(len(r.Entries)) }),
	col("progresses", "bool", func(r *stepRow) bool { return r.Progress != nil }),
	col("phase", "smallint", func(r *stepRow) int16 { return int16(r.progress().Phase) }),
	col("turn", "int", func(r *stepRow) int32 { return int32(r.progress().Turn) }),
	col("input_entry", "bigint", func(r *stepRow) int64 { return r.progress().InputEntry }),
	col("usage", "text", func(r *stepRow) *string { return r.usage }),
	col("clears", "bool", func(r *stepRow) bool { return r.Progresses() }),
	col("calls", "bool", func(r *stepRow) bool { return len(r.Calls) > 0 }),
	col("ends", "bool", func(r *stepRow) bool { return r.End != nil }),
	col("outcome", "text", func(r *stepRow) string { return string(r.end().Outcome) }),
	col("reason", "text", func(r *stepRow) string { return printable(r.end().Reason) }),
	col("message", "text", func(r *stepRow) string { return printable(r.end().Message) }),
	col("model", "text", func(r *stepRow) string { return printable(cmp.Or(r.end().Model, r.Model)) }),
	col("result_entry", "bigint", func(r *stepRow) int64 { return r.end().ResultEntry }),
	col("data", "text", func(r *stepRow) *string { return optional(string(r.end().Data)) }),
	col("cancellation", "text", func(r *stepRow) *string { return r.cancellation }),
}

// beginRow is a loop below the head that begins.
type beginRow struct {
	stepRow
	base int64 // of the stream
}

var beginTable = table[beginRow]{
	col("lane_id", "uuid", func(r *beginRow) string { return r.lane }),
	col("session_id", "uuid", func(r *beginRow) string { return r.SessionID }),
	col("loop_id", "uuid", func(r *beginRow) string { return r.LoopID }),
	col("root_id", "uuid", func(r *beginRow) string { return r.Begin.RootID }),
	col("parent_id", "uuid", func(r *beginRow) string { return r.Begin.ParentID }),
	col("parent_call", "text", func(r *beginRow) string { return r.Begin.ParentCall }),
	col("tenant", "text", func(r *beginRow) string { return r.Begin.Key.Tenant }),
	col("agent", "text", func(r *beginRow) string { return r.Begin.Key.Agent }),
	col("instance", "text", func(r *beginRow) string { return r.Begin.Key.Instance }),
	col("name", "text", func(r *beginRow) string { return r.Begin.Key.Name }),
	col("digest", "text", func(r *beginRow) string { return r.Begin.AgentDigest }),
	col("event_base", "bigint", func(r *beginRow) int64 { return r.base }),
	col("options", "text", func(r *beginRow) *string { return optional(r.options) }),
	col("goes_on", "bool", func(r *beginRow) bool { return r.Begin.GoesOn }),
}

// joinRow is a submission that joins a loop.
type joinRow struct {
	lane.Join
	lane, loop string
}

var joinTable = table[joinRow]{
	col("lane_id", "uuid", func(r *joinRow) string { return r.lane }),
	col("loop_id", "uuid", func(r *joinRow) string { return r.loop }),
	col("submission_id", "uuid", func(r *joinRow) string { return r.SubmissionID }),
	col("input_entry", "bigint", func(r *joinRow) int64 { return r.InputEntry }),
}

type entryRow struct {
	session.Entry
	lane, session string
}

var entryTable = table[entryRow]{
	col("lane_id", "uuid", func(r *entryRow) string { return r.lane }),
	col("session_id", "uuid", func(r *entryRow) string { return r.session }),
	col("seq", "bigint", func(r *entryRow) int64 { return r.Seq }),
	col("submission_id", "uuid", func(r *entryRow) *string { return optional(r.SubmissionID) }),
	col("kind", "text", func(r *entryRow) string { return string(r.Kind) }),
	col("body", "bytea", func(r *entryRow) []byte { return r.Body }),
	col("created_at", "timestamptz", func(r *entryRow) *time.Time { return moment(r.CreatedAt) }),
}

// imageRow is an image of an entry.
type imageRow struct {
	session.Image
	lane, session string
}

var imageTable = table[imageRow]{
	col("lane_id", "uuid", func(r *imageRow) string { return r.lane }),
	col("session_id", "uuid", func(r *imageRow) string { return r.session }),
	col("sha256", "text", func(r *imageRow) string { return r.SHA256 }),
	col("body", "bytea", func(r *imageRow) []byte { return r.Data }),
}

type callRow struct {
	*call.Call
	lane, loop string
}

var callTable = table[callRow]{
	col("lane_id", "uuid", func(r *callRow) string { return r.lane }),
	col("loop_id", "uuid", func(r *callRow) string { return r.loop }),
	col("call_id", "text", func(r *callRow) string { return r.ID }),
	col("turn", "int", func(r *callRow) int32 { return int32(r.Turn) }),
	col("idx", "int", func(r *callRow) int32 { return int32(r.Index) }),
	col("kind", "smallint", func(r *callRow) int16 { return int16(r.Kind) }),
	col("entry_seq", "bigint", func(r *callRow) int64 { return r.EntrySeq }),
	col("provider_id", "text", func(r *callRow) string { return printable(r.ProviderID) }),
	col("tool", "text", func(r *callRow) string { return printable(r.Tool) }),
	col("safety", "smallint", func(r *callRow) int16 { return int16(r.Safety) }),
	col("args_hash", "bytea", func(r *callRow) []byte { return r.ArgsHash }),
	col("executor", "text", func(r *callRow) string { return r.Executor }),
	col("dispatch", "int", func(r *callRow) int32 { return int32(r.Dispatch) }),
	col("journal_id", "text", func(r *callRow) string { return r.Journal }),
	col("state", "smallint", func(r *callRow) int16 { return int16(r.State) }),
	col("approval_id", "uuid", func(r *callRow) *string { return optional(r.Approval) }),
	col("reply", "bytea", func(r *callRow) []byte { return r.Reply }),
	col("leaves", "bool", func(r *callRow) bool { return r.Leaves }),
	col("stdout", "bigint", func(r *callRow) int64 { return r.Shown[0] }),
	col("stderr", "bigint", func(r *callRow) int64 { return r.Shown[1] }),
}

type changeRow struct {
	*change
	lane    string
	forgets string // the loop whose entries hold what its own calls came to, "" for none
}

var changeTable = table[changeRow]{
	col("lane_id", "uuid", func(r *changeRow) string { return r.lane }),
	col("call_id", "text", func(r *changeRow) string { return r.callID }),
	col("dispatches", "bool", func(r *changeRow) bool { return r.dispatch != nil }),
	col("executor", "text", func(r *changeRow) string { return value(r.dispatch).Executor }),
	col("dispatch", "int", func(r *changeRow) int32 { return int32(value(r.dispatch).Dispatch) }),
	col("journal_id", "text", func(r *changeRow) string { return value(r.dispatch).Journal }),
	col("state", "smallint", func(r *changeRow) *int16 { return r.state }),
	col("reply", "bytea", func(r *changeRow) []byte { return r.reply }),
	col("leaves", "bool", func(r *changeRow) bool { return r.leaves }),
	col("forgets", "uuid", func(r *changeRow) *string { return optional(r.forgets) }),
}

type shownRow struct {
	call.Shown
	lane string
}

var shownTable = table[shownRow]{
	col("lane_id", "uuid", func(r *shownRow) string { return r.lane }),
	col("call_id", "text", func(r *shownRow) string { return r.CallID }),
	col("stdout", "bigint", func(r *shownRow) int64 { return r.Stdout }),
	col("stderr", "bigint", func(r *shownRow) int64 { return r.Stderr }),
}

type turnRow struct {
	*lane.Turn
	lane, loop string
	usage      *string
}

var turnTable = table[turnRow]{
	col("lane_id", "uuid", func(r *turnRow) string { return r.lane }),
	col("loop_id", "uuid", func(r *turnRow) string { return r.loop }),
	col("turn", "int", func(r *turnRow) int32 { return int32(r.Turn.Turn) }),
	col("model", "text", func(r *turnRow) string { return printable(r.Model) }),
	col("request", "bytea", func(r *turnRow) []byte { return r.Request }),
	col("prefix", "bytea", func(r *turnRow) []byte { return r.Prefix }),
	col("usage", "text", func(r *turnRow) *string { return r.usage }),
	col("attempts", "int", func(r *turnRow) int32 { return int32(r.Attempts) }),
	col("first_token_us", "bigint", func(r *turnRow) int64 { return micros(r.FirstToken) }),
	col("duration_us", "bigint", func(r *turnRow) int64 { return micros(r.Duration) }),
	col("stop", "text", func(r *turnRow) string { return printable(r.Stop) }),
	col("error", "text", func(r *turnRow) string { return printable(r.Error) }),
	col("purpose", "text", func(r *turnRow) string { return r.Purpose }),
}

type prefixRow struct {
	lane         string
	digest, body []byte
}

var prefixTable = table[prefixRow]{
	col("lane_id", "uuid", func(r *prefixRow) string { return r.lane }),
	col("digest", "bytea", func(r *prefixRow) []byte { return r.digest }),
	col("body", "bytea", func(r *prefixRow) []byte { return r.body }),
}

// keptTable is commits whose lanes go on with what is queued.
var keptTable = table[laneRow]{
	col("lane_id", "uuid", func(r *laneRow) string { return r.Fence.LaneID }),
	col("epoch", "bigint", func(r *laneRow) int64 { return r.Fence.Epoch }),
	col("event_head", "bigint", func(r *laneRow) int64 { return r.segment.Last }),
}
