package main

const (
	turnDir     = "services/control/loop/"
	postgresDir = "services/control/store/postgres/"
	workDir     = "services/executor/work/"
	keeperDir   = "services/executor/keeper/"
)

// twice makes control send every order twice, which any network may do. A call must not mind.
var twice = patch{
	turnDir + "calls.go", `		if !r.send(ctx, c.Executor, &call.Order{`,
	`		r.send(ctx, c.Executor, &call.Order{
			Call: *c, LaneID: r.id(), Epoch: r.fence.Epoch, Request: req, Cwd: r.def.Cwd, Env: r.values.Map(),
			Timeout: timeout,
		})
		if !r.send(ctx, c.Executor, &call.Order{`,
}

var someSeeds = []uint64{1, 2, 3, 4}

var mutants = []mutant{
	{
		name: "(no mutation but orders sent twice)", mix: "executors", seconds: 20, seeds: []uint64{1},
		patches: []patch{twice},
	},
	{
		name: "a take-over leaves the epoch as it is", expect: []string{"I2"}, mix: "owners", seconds: 30, seeds: someSeeds,
		patches: []patch{{postgresDir + "claim.go", `SKIP LOCKED) l LIMIT $3)
UPDATE lanes x SET state = 2, owner = $1, epoch = x.epoch + 1,`, `SKIP LOCKED) l LIMIT $3)
UPDATE lanes x SET state = 2, owner = $1, epoch = x.epoch,`}},
	},
	{
		name: "lanes of live replicas are taken over", expect: []string{"I2"}, mix: "executors", seconds: 20, seeds: someSeeds,
		patches: []patch{{
			postgresDir + "claim.go", `AND expires <= clock_timestamp() + $5::bigint * interval '1 microsecond'`,
			`AND expires <= clock_timestamp() + interval '20 seconds' + $5::bigint * interval '1 microsecond'`,
		}},
	},
	{
		name: "results are acknowledged before they are recorded", expect: []string{"I7"}, mix: "database", seconds: 60, seeds: someSeeds,
		patches: []patch{{
			turnDir + "rest.go", `r.results = append(r.results, ack{c.Executor, &call.ResultAck{CallID: c.ID}})`,
			`r.send(ctx, c.Executor, &call.ResultAck{CallID: c.ID})`,
		}},
	},
	{
		name: "a call that comes twice runs twice", expect: []string{"I4"}, mix: "executors", seconds: 20, seeds: someSeeds,
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
		name: "an executor that knows nothing proves that nothing ran", expect: []string{"I4"}, mix: "disks", seconds: 30, seeds: someSeeds,
		patches: []patch{{turnDir + "await.go", `	return f.Journal != "" && f.Journal == c.Journal && time.Since(c.DispatchedAt) < call.ForgetAfter`, `	return true`}},
	},
	{
		name: "an executor that knows nothing says that it never ran what is cancelled", expect: []string{"I7"}, mix: "wiped", seconds: 40, seeds: someSeeds,
		patches: []patch{{
			workDir + "cancel.go", `s.onceDurable(lsn, m.GetCallId(), func() { s.unknown(m.GetCallId(), m.GetLaneId(), 0) })`,
			`s.onceDurable(lsn, m.GetCallId(), func() { s.cancelledUnseen(m) })`,
		}},
	},
	{
		name: "calls that were interrupted count as done", expect: []string{"I7"}, mix: "keepers", seconds: 20, seeds: someSeeds,
		patches: []patch{{"services/control/tool/reply.go", `	case ReasonInterrupted:
		return Unseen
`, ``}},
	},
	{
		name: "commands that were interrupted count as successful", expect: []string{"I7"}, mix: "keepers", seconds: 20, seeds: someSeeds,
		patches: []patch{{workDir + "exec.go", `	if x.Interrupted {
		s.finish`, `	if false {
		s.finish`}},
	},
	{
		name: "an unknown outcome is told as a failure", expect: []string{"I7"}, mix: "keepers", seconds: 20, seeds: someSeeds,
		patches: []patch{{"services/control/tool/failure.go", `		message = c.unknownOutcome()
`, `		message = "It failed."
`}},
	},
	{
		name: "calls that must run once at most are run again", expect: []string{"I4"}, mix: "keepers", seconds: 30, seeds: someSeeds,
		patches: []patch{
			{
				turnDir + "await.go", `if state == call.Lost && c.Safety != tool.AtMostOnce && r.stop == nil {`,
				`if state == call.Lost && r.stop == nil {`,
			},
			{
				workDir + "rules.go", `f.state == journal.Interrupted && f.safety != journal.AtMostOnce && dispatch`,
				`f.state == journal.Interrupted && dispatch`,
			},
		},
	},
	{
		name: "a settled lane goes idle whatever waits", expect: []string{"I1"}, mix: "links", seconds: 10, seeds: someSeeds,
		patches: []patch{{
			postgresDir + "commit_sql.go",
			`WHEN x.pending = 1 THEN 0 WHEN i.continues THEN 2 ELSE 1 END`, `ELSE 0 END`,
		}},
	},
	{
		name: "admission ignores the idempotency key", expect: []string{"I1"}, mix: "links", seconds: 15, seeds: someSeeds,
		patches: []patch{{
			postgresDir + "admit.go", `submissions[j], idems[j], scopes[j], hashes[j] = a.ID, optional(a.IdempotencyKey), a.scope, a.InputHash`,
			`submissions[j], idems[j], scopes[j], hashes[j] = a.ID, optional(a.ID), a.scope, a.InputHash`,
		}},
	},
	{
		name: "an abort settles what runs", expect: []string{"I1"}, mix: "aborts", seconds: 15, seeds: someSeeds,
		patches: []patch{{
			postgresDir + "abort.go", `FROM n WHERE {which} = 0 RETURNING s.session_id)`,
			`FROM n WHERE {which} < 2 RETURNING s.session_id)`,
		}},
	},
	{
		name: "events are published with other seqs than committed", expect: []string{"I3"}, mix: "links", seconds: 15, seeds: someSeeds,
		patches: []patch{{turnDir + "commit.go", `	r.deps.Events.Publish(r.key, c.Events)`, `	for i := range c.Events {
		c.Events[i].Seq += int64(i & 1)
	}
	r.deps.Events.Publish(r.key, c.Events)`}},
	},
	{
		name: "events are published before they are committed", expect: []string{"I3"}, mix: "database", seconds: 60, seeds: someSeeds,
		patches: []patch{{turnDir + "commit.go", `	done, err := backoff.Retry(ctx, func`, `	r.deps.Events.Publish(r.key, c.Events)
	done, err := backoff.Retry(ctx, func`}},
	},
	{
		name: "a new owner shows again what was shown", expect: []string{"I5"}, mix: "handovers", seconds: 20, seeds: someSeeds,
		patches: []patch{{turnDir + "shown.go", `known > 0 {`, `false {`}},
	},
	{
		name: "a cancelled call is confirmed without a sweep", expect: []string{"I6"}, mix: "aborts", seconds: 30, seeds: someSeeds,
		patches: []patch{{keeperDir + "end.go", `	if v.left && !kept {
		v = k.sweep(c)
	}
	e.Confirmed = !v.left && !v.doubt`, `	e.Confirmed = true`}},
	},
	{
		name: "a late result replaces the unknown outcome", expect: []string{"I4"}, mix: "late", seconds: 50, seeds: someSeeds,
		patches: []patch{{
			postgresDir + "call.go", `  state      = CASE WHEN state < 2 THEN $2 ELSE state END,`,
			`  state      = CASE WHEN state < 2 OR state = 3 THEN $2 ELSE state END,`,
		}},
	},
}
