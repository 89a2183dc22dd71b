package main

const (
	callDir     = "services/control/call/"
	laneDir     = "services/control/lane/"
	loopDir     = "services/control/loop/"
	postgresDir = "services/control/store/postgres/"
	rowsDir     = "services/control/store/rows/"
	turnDir     = "services/control/turn/"
	workDir     = "services/executor/work/"
	keeperDir   = "services/executor/keeper/"
)

// twice makes control send every order twice, which any network may do. A call must not mind.
var twice = patch{
	turnDir + "commit.go", `	err := t.lane.deps.Executors.Send(t.lane.head.ctx, executor, m)
`, `	err := t.lane.deps.Executors.Send(t.lane.head.ctx, executor, m)
	if _, order := m.(*call.Order); order && err == nil {
		err = t.lane.deps.Executors.Send(t.lane.head.ctx, executor, m)
	}
`,
}

var someSeeds = []uint64{1, 2, 3, 4}

var mutants = []mutant{
	{
		name: "(no mutation but orders sent twice)", mix: "executors", seconds: 20, seeds: []uint64{1},
		patches: []patch{twice},
	},
	{
		name: "a take-over leaves the epoch as it is", expect: []string{"I2"}, mix: "owners", seconds: 30,
		seeds: someSeeds,
		patches: []patch{{
			postgresDir + "claim_sql.go", "SKIP LOCKED) l LIMIT $3)` + takeSQL", "SKIP LOCKED) l LIMIT $3)\n" +
				"UPDATE lanes x SET state = 2, owner = $1, epoch = x.epoch, claim_id = $2\n" +
				"FROM c WHERE x.lane_id = c.lane_id AND $6::bigint > 0`",
		}},
	},
	{
		name:   "lanes of live replicas are taken over",
		expect: []string{"I2"}, mix: "executors", seconds: 20, seeds: someSeeds,
		patches: []patch{{
			postgresDir + "claim_sql.go", `AND r.expires <= $5::timestamptz
`, `AND r.expires <= $5::timestamptz + interval '20 seconds'
`,
		}},
	},
	{
		name:   "results are acknowledged before they are recorded",
		expect: []string{"I7"}, mix: "database", seconds: 60, seeds: someSeeds,
		patches: []patch{{
			turnDir + "act.go", `t.out.results = append(t.out.results, ack{c.Executor, &call.ResultAck{CallID: c.ID}})`,
			`t.send(c.Executor, &call.ResultAck{CallID: c.ID})`,
		}},
	},
	{
		name:   "a call that comes twice runs twice",
		expect: []string{"I4"}, mix: "executors", seconds: 20, seeds: someSeeds,
		patches: []patch{
			twice,
			{
				workDir + "rules.go", `case f.known && !mayRunAgain(f, dispatch):`,
				`case false && !mayRunAgain(f, dispatch):`,
			},
			{workDir + "exec.go", `	if again {
		ctx, cancel`, `	if false {
		ctx, cancel`},
			{
				keeperDir + "call.go", `if known := k.calls[id]; known != nil {`,
				`if known := k.calls[id]; known != nil && false {`,
			},
		},
	},
	{
		name:   "an executor that knows nothing proves that nothing ran",
		expect: []string{"I4"}, mix: "disks", seconds: 30, seeds: someSeeds,
		patches: []patch{{callDir + "rules.go", `	return f.Journal != "" && f.Journal == s.Call.Journal && s.since(s.Watch.Sent) < ForgetAfter`, `	return true`}},
	},
	{
		name:   "an executor that knows nothing says that it never ran what is cancelled",
		expect: []string{"I7"}, mix: "wiped", seconds: 40, seeds: someSeeds,
		patches: []patch{{
			workDir + "cancel.go", `s.onceDurable(lsn, m.GetCallId(), func() { s.unknown(m.GetCallId(), m.GetLaneId(), 0) })`,
			`s.onceDurable(lsn, m.GetCallId(), func() { s.cancelledUnseen(m) })`,
		}},
	},
	{
		name:   "calls that were interrupted count as done",
		expect: []string{"I7"}, mix: "keepers", seconds: 20, seeds: someSeeds,
		patches: []patch{{"services/control/tool/reply.go", `	case ReasonInterrupted:
		return Unseen
`, ``}},
	},
	{
		name:   "commands that were interrupted count as successful",
		expect: []string{"I7"}, mix: "keepers", seconds: 20, seeds: someSeeds,
		patches: []patch{{workDir + "exec.go", `	if x.Interrupted {
		s.finish`, `	if false {
		s.finish`}},
	},
	{
		name:   "an unknown outcome is told as a failure",
		expect: []string{"I7"}, mix: "keepers", seconds: 20, seeds: someSeeds,
		patches: []patch{{"services/control/tool/failure.go", `		message = c.unknownOutcome()
`, `		message = "It failed."
`}},
	},
	{
		name:   "calls that must run once at most are run again",
		expect: []string{"I4"}, mix: "keepers", seconds: 30, seeds: someSeeds,
		patches: []patch{
			{
				callDir + "rules.go", `return StateOf(e.Reply) == Lost && s.Call.Safety != tool.AtMostOnce && !s.stopped()`,
				`return StateOf(e.Reply) == Lost && !s.stopped()`,
			},
			{
				workDir + "rules.go", `f.state == journal.Interrupted && f.safety != journal.AtMostOnce && dispatch`,
				`f.state == journal.Interrupted && dispatch`,
			},
		},
	},
	{
		name:   "a settled lane goes idle whatever waits",
		expect: []string{"I1"}, mix: "links", seconds: 10, seeds: someSeeds,
		patches: []patch{{
			postgresDir + "commit_sql.go",
			`CASE WHEN i.ends THEN CASE WHEN x.pending <= 1 THEN 0 WHEN i.continues THEN 2 ELSE 1 END`,
			`CASE WHEN i.ends THEN 0`,
		}},
	},
	{
		name:   "admission ignores the idempotency key",
		expect: []string{"I1"}, mix: "links", seconds: 15, seeds: someSeeds,
		patches: []patch{{
			postgresDir + "admit_sql.go", `return optional(r.IdempotencyKey) }`, `return optional(r.ID) }`,
		}},
	},
	{
		name: "an abort settles what runs", expect: []string{"I1"}, mix: "aborts", seconds: 15, seeds: someSeeds,
		patches: []patch{{
			postgresDir + "abort.go", `FROM n WHERE {which} = 0 AND s.parent_call IS NULL RETURNING s.lane_id)`,
			`FROM n WHERE {which} < 2 AND s.parent_call IS NULL RETURNING s.lane_id)`,
		}},
	},
	{
		name:   "events are published with other seqs than committed",
		expect: []string{"I3"}, mix: "links", seconds: 15, seeds: someSeeds,
		patches: []patch{{laneDir + "write.go", `	o.worker.deps.Events.Publish(o.Fence().LaneID, o.key, events)`, `
	for i := range events {
		events[i].Seq += int64(i & 1)
	}
	o.worker.deps.Events.Publish(o.Fence().LaneID, o.key, events)`}},
	},
	{
		name:   "events are published before they are committed",
		expect: []string{"I3"}, mix: "database", seconds: 60, seeds: someSeeds,
		patches: []patch{{laneDir + "write.go", `	var wait *backoff.ExponentialBackOff`, `
	o.worker.deps.Events.Publish(o.Fence().LaneID, o.key, c.Events())
	var wait *backoff.ExponentialBackOff`}},
	},
	{
		name:   "a new owner shows again what was shown",
		expect: []string{"I5"}, mix: "handovers", seconds: 20, seeds: someSeeds,
		patches: []patch{{turnDir + "output.go", `known > 0 {`, `false {`}},
	},
	{
		name:   "a cancelled call is confirmed without a sweep",
		expect: []string{"I6"}, mix: "aborts", seconds: 30, seeds: someSeeds,
		patches: []patch{{keeperDir + "end.go", `	if v.left && !kept {
		v = k.sweep(c)
	}
	e.Confirmed = !v.left && !v.doubt`, `	e.Confirmed = true`}},
	},
	{
		name:   "a late result replaces the unknown outcome",
		expect: []string{"I4"}, mix: "late", seconds: 50, seeds: someSeeds,
		patches: []patch{{
			postgresDir + "call.go", `  state      = CASE WHEN state < 2 THEN $3 ELSE state END,`,
			`  state      = CASE WHEN state < 2 OR state = 3 THEN $3 ELSE state END,`,
		}},
	},
	{
		name:   "a task that is found in its row is ended again",
		expect: []string{"I7"}, mix: "trees", seconds: 10, seeds: someSeeds,
		patches: []patch{{turnDir + "await.go", `		case c.Kind == uint8(tool.KindTask): // its loop`, `		case false: // its loop`}},
	},
	{
		name:   "a sub-agent ends without its call",
		expect: []string{"I7", "I1"}, mix: "trees", seconds: 10, seeds: someSeeds,
		patches: []patch{{
			loopDir + "task.go",
			`	s.Outcomes = append(s.Outcomes, call.Outcome{CallID: l.row.ParentCall, State: state, Reply: body})
`, `	_ = body
`,
		}},
	},
	{
		name: "what sub-agents cost is not counted", expect: []string{"I1"}, mix: "trees", seconds: 10, seeds: someSeeds,
		patches: []patch{{loopDir + "calls.go", `		usage = usage.Add(c.Usage())
`, `		_ = c
`}},
	},
	{
		name:   "deltas of sub-agents are stored as the submission's",
		expect: []string{"I3"}, mix: "trees", seconds: 10, seeds: someSeeds,
		patches: []patch{{
			turnDir + "commit.go", `t.who.LoopID, t.user.Turn(), t.who.Task
`, `t.who.LoopID, t.user.Turn(), t.who.Task
	if e.Type.IsDelta() && e.Loop != nil {
		e.SubmissionID, e.Loop = e.Loop.Root, nil
	}
`,
		}},
	},
	{
		name:   "who wants no deltas of sub-agents gets none of their entries",
		expect: []string{"I3"}, mix: "trees", seconds: 10, seeds: someSeeds,
		patches: []patch{{
			"services/control/event/want.go",
			`return w.Children != NoChildren || slices.Contains(w.Tasks, e.Loop.Task)`,
			`return w.Children == AllOfChildren`,
		}},
	},
	{
		name:   "only the root of a tree is taken over",
		expect: []string{"I1"}, mix: "trees", seconds: 15, seeds: someSeeds,
		patches: []patch{{loopDir + "tree.go", `t.reopen(ctx, t.Head().Loops, nil)`, `t.reopen(ctx, t.Head().Loops[:1], nil)`}},
	},
	{
		name:   "a head that cannot be read is left to itself",
		expect: []string{"I1"}, mix: "rows", seconds: 15, seeds: someSeeds,
		patches: []patch{{
			postgresDir + "claim.go", `		ended, failed := s.End(ctx, lease.Fence, z.Outcome, z.Reason, z.Message)
`, `		ended, failed := lane.Ended{}, lane.ErrFenced.With("%s", z.Message)
`,
		}},
	},
	{
		name:   "sub-agents stay open when their head is settled from rows",
		expect: []string{"I1"}, mix: "rows", seconds: 20, seeds: someSeeds,
		patches: []patch{{postgresDir + "ending.go", `	batch.Queue(treesSQL, e.flush, heads)
`, ``}},
	},
	{
		name:   "calls stay open when their head is settled from rows",
		expect: []string{"I7"}, mix: "rows", seconds: 20, seeds: someSeeds,
		patches: []patch{{postgresDir + "ending.go", `	batch.Queue(endCallsSQL, e.flush, now, calls)
`, ``}},
	},
	{
		name:   "a lane that is settled from rows goes idle whatever waits",
		expect: []string{"I1"}, mix: "rows", seconds: 20, seeds: someSeeds,
		patches: []patch{{
			postgresDir + "ending.go", `  state = CASE WHEN x.pending <= 1 THEN 0 ELSE 1 END, urgent`, `  state = 0, urgent`,
		}},
	},
	{
		name: "a settlement from rows confirms what nobody saw", expect: []string{"I6"}, mix: "rows", seconds: 20,
		seeds: someSeeds,
		patches: []patch{{
			laneDir + "ended.go", `		if c.State == call.Dispatched && c.Executor != "" {`,
			`		if c.State > call.Dispatched && c.Executor != "" {`,
		}},
	},
	{
		name: "the end of a sub-agent is not in the stream", expect: []string{"I1"}, mix: "trees", seconds: 8,
		seeds: someSeeds,
		patches: []patch{{
			loopDir + "task.go",
			`l.Event(event.Event{Type: event.TaskFinished, Settlement: &told, Task: about}), ended)`, `ended)`,
		}},
	},
	{
		name: "a gate is skipped", expect: []string{"I9"}, mix: "gates", seconds: 8, seeds: someSeeds,
		patches: []patch{{
			loopDir + "gate.go", `		if v.Do != approval.DoAsk {`,
			`		if v.Do != approval.DoAsk || v.Do == approval.DoAsk {`,
		}},
	},
	{
		name: "a call is made before anybody has decided", expect: []string{"I9"}, mix: "gates", seconds: 8,
		seeds:   someSeeds,
		patches: []patch{{turnDir + "await.go", `Gated: c.gate != nil,`, `Gated: false && c.gate != nil,`}},
	},
	{
		name: "a decision is lost", expect: []string{"I9"}, mix: "gates", seconds: 8, seeds: someSeeds,
		patches: []patch{{
			rowsDir + "approval.go", `UPDATE approvals SET state = $3, decided_by`,
			`UPDATE approvals SET state = 0 * $3, decided_by`,
		}},
	},
	{
		name: "a decision wakes nobody", expect: []string{"I1", "I9"}, mix: "gates", seconds: 8, seeds: someSeeds,
		patches: []patch{{
			postgresDir + "approval.go", "if err == nil && decided {\n				_, err = tx.Exec(ctx, `INSERT",
			"if err == nil && decided && false {\n				_, err = tx.Exec(ctx, `INSERT",
		}},
	},
	{
		name: "an approval is decided twice", expect: []string{"I9"}, mix: "gates", seconds: 8, seeds: someSeeds,
		patches: []patch{{
			rowsDir + "approval.go", `approval_id = $1 AND tenant = $2 AND state = 0
`, `approval_id = $1 AND tenant = $2
`,
		}},
	},
	{
		name: "what nobody has allowed in time is done", expect: []string{"I9"}, mix: "gates", seconds: 12,
		seeds: someSeeds,
		patches: []patch{{
			"services/control/approval/approval.go", `if ask.Rule.OnTimeout != DoAllow {`,
			`if ask.Rule.OnTimeout == DoAsk {`,
		}},
	},
	{
		name: "a steered input is lost", expect: []string{"I10"}, mix: "inputs", seconds: 8, seeds: someSeeds,
		patches: []patch{{
			loopDir + "steer.go", `	s.Joins = append(s.Joins, lane.Join{SubmissionID: one.ID, InputEntry: e.Seq})
`, `	s.Joins = append(s.Joins, lane.Join{SubmissionID: one.ID, InputEntry: e.Seq})
	s.Entries = s.Entries[:n]
`,
		}},
	},
	{
		name: "what has joined a submission does not settle with it", expect: []string{"I1", "I10"}, mix: "inputs",
		seconds: 8, seeds: someSeeds,
		patches: []patch{{
			postgresDir + "commit_sql.go", `WHERE c.host_id = r.submission_id AND c.status + 0 = 3
`, `WHERE c.host_id = r.submission_id AND c.status + 0 = 4
`,
		}},
	},
}
