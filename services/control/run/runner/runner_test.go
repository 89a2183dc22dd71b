package runner_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
)

// try has a bench in a bubble of fake time.
func try(t *testing.T, files map[string]string, f func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, files)
		defer func() { b.die() }()
		f(b)
	})
}

func TestStepsThatTakeNoTime(t *testing.T) {
	try(t, map[string]string{"w": `
steps:
  - id: a
    set: {x: "${{ input.n }}"}
  - log: "x is ${{ steps.a.x }}"
output: {x: "${{ steps.a.x }}"}
input: {type: object, required: [n], properties: {n: {type: integer}}}
`}, func(b *bench) {
		id := b.begin("w", `{"n": 7}`)
		b.expect(b.end(id), `completed {"x":7}`)
		b.expect(b.steps(id), "a completed, log-2 completed")
	})
}

func TestCommands(t *testing.T) {
	try(t, map[string]string{"w": `
steps:
  - id: a
    shell: hello $WHO
    env: {WHO: world}
  - id: b
    shell: 'exit 3'
    on_error: continue
  - id: c
    shell: '5: late'
    if: steps.b.status == 'failed'
output: "${{ steps.a.stdout }} ${{ steps.c.?stdout.orValue('') }}"
`}, func(b *bench) {
		id := b.begin("w", `{}`)
		b.expect(b.end(id), `completed "hello world late"`)
		b.expect(b.steps(id), "a completed, b failed, c completed")
		b.expect(b.record(id, "b").Failed.Reason, "exit_code")
		b.expect(strings.Join(b.machine.executed(), ", "), "hello $WHO, exit 3, 5: late")
	})
}

// Whoever takes a run over attaches to its command; what has ended is not done again.
func TestDeathsInTheMiddleOfCommands(t *testing.T) {
	for name, again := range map[string]func(b *bench){"killed": (*bench).restart, "drained": (*bench).replace} {
		t.Run(name, func(t *testing.T) {
			try(t, map[string]string{"w": `
steps:
  - shell: first
  - id: all
    foreach: ["1", "2", "3"]
    as: n
    parallel: 3
    do:
      - id: one
        shell: '10: done $N'
        env: {N: "${{ n }}"}
    output: "${{ steps.one.stdout }}"
output: "${{ steps.all.items }}"
`}, func(b *bench) {
				id := b.begin("w", `{}`)
				b.wait(5 * time.Second)
				again(b)
				b.wait(time.Second)
				again(b)
				b.expect(b.end(id), `completed ["done 1","done 2","done 3"]`)
				if all := b.machine.executed(); len(all) != 4 {
					b.Errorf("executed %q", all)
				}
			})
		})
	}
}

func TestSleepsRest(t *testing.T) {
	try(t, map[string]string{"w": `
steps:
  - sleep: 10m
  - id: until
    sleep: "${{ timestamp(run.started) + duration('20m') }}"
`}, func(b *bench) {
		began := time.Now()
		id := b.begin("w", `{}`)
		b.wait(time.Minute)
		if r := b.get(id); !r.Resting {
			b.Errorf("the run does not rest: %+v", r)
		}
		b.restart()
		b.expect(b.end(id), "completed ")
		if took := time.Since(began); took < 20*time.Minute || took > 20*time.Minute+10*time.Second {
			b.Errorf("took %v", took)
		}
	})
}

func TestSignals(t *testing.T) {
	try(t, map[string]string{"w": `
steps:
  - id: a
    signal: go
    result: {type: object, required: [n], properties: {n: {type: integer}}}
  - id: b
    signal: go
  - id: c
    signal: never
    timeout: 10m
output: {n: "${{ steps.a.result.n }}", c: "${{ steps.c.received }}"}
`}, func(b *bench) {
		id := b.begin("w", `{}`)
		b.wait(time.Minute)
		b.restart()
		b.wait(time.Minute)
		b.tell(id, "go", `{"n": 1}`)
		b.wait(time.Minute)
		b.expect(b.steps(id), "a completed, b started")
		if r := b.get(id); !r.Resting {
			b.Errorf("the run does not rest: %+v", r)
		}
		b.tell(id, "go", `2`)
		b.expect(b.end(id), `completed {"c":false,"n":1}`)
	})
}

// A run that is cancelled undoes what it has done, ends what runs, and does what it does in any case.
func TestCancel(t *testing.T) {
	try(t, map[string]string{"w": `
steps:
  - shell: made
    undo: [{shell: '5: unmade'}]
  - shell: hold
finally:
  - shell: swept
`}, func(b *bench) {
		id := b.begin("w", `{}`)
		b.wait(time.Minute)
		if _, err := b.runs.Cancel(b.Context(), session.DefaultTenant, id); err != nil {
			b.Fatal(err)
		}
		b.wait(2 * time.Second)
		b.restart()
		b.expect(b.end(id), "cancelled ABORTED the run was cancelled; confirmed: nothing of it runs any more")
		b.expect(strings.Join(b.machine.executed(), ", "), "made, hold, 5: unmade, swept")
	})
}

func TestTimeouts(t *testing.T) {
	try(t, map[string]string{"step": `
steps:
  - id: a
    shell: hold
    timeout: 1m
    on_error: continue
output: "${{ steps.a.?error.?reason.orValue('') }}"
`, "run": `
timeout: 1m
steps: [{shell: hold}]
`}, func(b *bench) {
		b.expect(b.end(b.begin("step", `{}`)), `completed "timeout"`)
		b.expect(b.end(b.begin("run", `{}`)), "expired timeout the run took longer than its "+
			"timeout of 1m0s; confirmed: nothing of it runs any more")
	})
}

func TestPrompts(t *testing.T) {
	try(t, map[string]string{"w": `
agent: shell
steps:
  - id: a
    prompt: "say: hello"
  - id: b
    prompt: "run: 5: slow"
output: "${{ steps.a.text }}, ${{ steps.b.text }}"
`}, func(b *bench) {
		id := b.begin("w", `{}`)
		b.wait(3 * time.Second)
		b.restart()
		got := b.end(id)
		if !strings.HasPrefix(got, `completed "hello, `) || !strings.Contains(got, "slow") {
			b.Error(got)
		}
		if all := b.machine.executed(); len(all) != 1 {
			b.Errorf("executed %q", all)
		}
	})
}

func TestChildren(t *testing.T) {
	try(t, map[string]string{"child": `
input: {type: object, required: [n], properties: {n: {type: integer}}}
steps: [{sleep: 10m}]
output: "${{ input.n * 2 }}"
`, "w": `
steps:
  - id: all
    foreach: [1, 2, 3]
    as: n
    parallel: 3
    do:
      - id: one
        workflow: child
        with: {n: "${{ n }}"}
    output: "${{ steps.one.output }}"
output: "${{ steps.all.items }}"
`}, func(b *bench) {
		began := time.Now()
		id := b.begin("w", `{}`)
		b.wait(time.Minute)
		b.restart()
		b.wait(time.Minute)
		if r := b.get(id); !r.Resting {
			b.Errorf("the run does not rest: %+v", r)
		}
		b.expect(b.end(id), `completed [2,4,6]`)
		if took := time.Since(began); took > 15*time.Minute {
			b.Errorf("took %v", took)
		}
	})
}

func TestDispatch(t *testing.T) {
	try(t, map[string]string{"w": `
steps:
  - id: a
    dispatch: shell
    message: "say: there"
    wait: true
output: "${{ steps.a.text }}"
`}, func(b *bench) {
		b.expect(b.end(b.begin("w", `{}`)), `completed "there"`)
	})
}

// Steps that name a session go on in one conversation, others have their own.
func TestPromptsOfOneSession(t *testing.T) {
	try(t, map[string]string{"w": `
agent: shell
steps:
  - prompt: "say: one"
    session: both
  - id: b
    prompt: "say: two"
    session: both
  - prompt: "say: three"
output: "${{ steps.b.session }}"
`}, func(b *bench) {
		id := b.begin("w", `{}`)
		b.expect(b.end(id), `completed "both"`)
		var counts []string
		for _, s := range b.conversations(id) {
			counts = append(counts, strconv.Itoa(len(s)))
		}
		slices.Sort(counts)
		b.expect(strings.Join(counts, " "), "2 4")
	})
}

// Each try of a step starts a run of its own, and an owner that comes later goes on with the one of the present try.
func TestTriesOfChildren(t *testing.T) {
	try(t, map[string]string{"child": `
steps:
  - sleep: 10m
  - fail: "always"
`, "w": `
steps:
  - id: a
    workflow: child
    retry: {attempts: 3, backoff: 1s, on: [failed]}
    on_error: continue
output: "${{ steps.a.attempts }}"
`}, func(b *bench) {
		id := b.begin("w", `{}`)
		b.wait(15 * time.Minute)
		b.restart()
		b.expect(b.end(id), "completed 3")
		all, err := b.runs.List(b.Context(), run.Filter{Tenant: session.DefaultTenant, Parent: id, Limit: 100})
		if err != nil || len(all) != 3 {
			b.Errorf("%d runs, %v", len(all), err)
		}
	})
}

// How long a step took counts from its beginning, whoever it was that began it.
func TestDurationsOverDeaths(t *testing.T) {
	try(t, map[string]string{"w": `steps: [{id: a, shell: '20: slow'}]`}, func(b *bench) {
		id := b.begin("w", `{}`)
		b.wait(15 * time.Second)
		b.restart()
		b.expect(b.end(id), "completed ")
		if took := b.record(id, "a").Took; took < 20*time.Second {
			b.Errorf("took %v", took)
		}
	})
}

// What a question that nobody decides stands for is what its step says.
func TestQuestionsThatNobodyDecides(t *testing.T) {
	try(t, map[string]string{"w": `
steps:
  - {id: a, approve: Publish it, timeout: 1m}
  - {id: b, approve: Publish it, timeout: 1m, on_timeout: reject}
  - {id: c, approve: Publish it, timeout: 1m, on_timeout: approve}
  - {id: d, approve: Publish it, timeout: 1m, on_timeout: fail, on_error: continue}
output: "${{ steps.a.decision }} ${{ steps.b.decision }} ${{ steps.c.decision }} ${{ steps.d.status }}"
`}, func(b *bench) {
		id := b.begin("w", `{}`)
		b.wait(90 * time.Second)
		b.restart()
		b.expect(b.end(id), `completed "timeout rejected approved failed"`)
	})
}
