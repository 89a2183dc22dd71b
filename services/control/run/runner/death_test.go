package runner_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/step"
)

// lives are workflows that come to the same whoever dies.
var lives = map[string]struct {
	files  map[string]string
	others func(b *bench, r run.Run)
	// unsure are requests that must not be repeated: if their owner dies, nobody knows what has become of them, and the
	// run goes on with that.
	unsure []string
}{
	"commands": {files: map[string]string{"w": `
steps:
  - id: a
    shell: hello $WHO
    env: {WHO: "${{ input.who }}"}
  - id: b
    shell: 'exit 3'
    on_error: continue
  - id: c
    shell: '2: '
    stdin: '{"n": 7}'
    result: {type: object, required: [n], properties: {n: {type: integer}}}
  - if: steps.c.result.n == 8
    shell: never
  - id: d
    shell: 'exit 4'
    exit_codes: [4]
  - log: "n is ${{ steps.c.result.n }}"
  - id: e
    set: {x: "${{ steps.d.exit_code }}"}
input: {type: object, properties: {who: {type: string, default: world}}}
output: {a: "${{ steps.a.stdout }}", n: "${{ steps.c.result.n }}", x: "${{ steps.e.x }}"}
`}},
	"files and tools": {files: map[string]string{"w": `
steps:
  - write: notes.txt
    content: remember
  - id: r
    read: notes.txt
  - id: gone
    read: gone.txt
    on_error: continue
  - id: t
    call: bash
    with: {command: '1: by tool'}
  - id: d
    call: draw
    agent: artist
    on_unknown: continue
output: "${{ steps.r.content }} ${{ steps.t.text }} ${{ steps.gone.status }}"
`}},
	"agents": {files: map[string]string{"w": `
agent: shell
steps:
  - id: a
    prompt: "1: looked"
    session: both
  - id: b
    prompt: "say: two"
    session: both
  - id: c
    prompt: "finish: {\"n\": 3}"
    result: {type: object, required: [n], properties: {n: {type: integer}}}
  - id: p
    parallel:
      l: [{id: x, prompt: "2: left"}]
      r: [{id: y, prompt: "2: right\n& 1: too"}]
  - id: s
    skill: quiet
    agent: skilled
  - id: f
    prompt: "fail: no"
    on_error: continue
output: "${{ steps.b.text }} ${{ steps.c.result.n }} ${{ steps.p.l.x.text }} ${{ steps.f.status }}"
`}},
	"dispatches": {files: map[string]string{"w": `
steps:
  - id: a
    dispatch: shell
    instance: one
    message: "1: first"
  - id: b
    dispatch: shell
    instance: two
    message: "2: second"
    wait: true
  - id: c
    dispatch: shell
    instance: two
    message: "fail: no"
    wait: true
    on_error: continue
  - sleep: 5s
output: "${{ steps.b.text }} ${{ steps.c.status }}"
`}},
	"requests": {files: map[string]string{"w": `
steps:
  - id: get
    http: http://example.com/get
  - id: post
    http: http://example.com/post
    method: POST
    body: {a: 1}
    on_unknown: continue
  - id: put
    http: http://example.com/put
    method: PUT
    body: text
    safety: idempotent
output: "${{ steps.get.body }} ${{ steps.put.body }}"
`}, unsure: []string{"post"}},
	"waits": {files: map[string]string{"w": `
steps:
  - sleep: 2m
  - id: s
    signal: go
    result: {type: integer}
  - id: t
    signal: go
    timeout: 1m
  - id: late
    signal: never
    timeout: 30s
  - id: ok
    approve: Go on?
    details: {n: "${{ steps.s.result }}"}
  - id: no
    approve: Really?
    timeout: 1m
    on_timeout: reject
output: "${{ steps.s.result }} ${{ steps.late.received }} ${{ steps.ok.decision }} ${{ steps.no.decision }}"
`}, others: func(b *bench, r run.Run) {
		for n, path := range []string{"s", "t"} {
			if b.began(r.ID, path) {
				b.once(r.ID, "go", fmt.Sprint(n+1), fmt.Sprint(n+1))
			}
		}
		if b.began(r.ID, "ok") {
			b.approve("ok")
		}
	}},
	"children": {files: map[string]string{"w": `
steps:
  - id: a
    workflow: child
    with: {n: 1}
    wait: true
  - id: b
    workflow: child
    with: {n: 2}
    wait: false
  - id: c
    workflow: child
    with: {n: 3}
    on_error: continue
  - sleep: 10s
output: "${{ steps.a.output }} ${{ steps.c.status }}"
`, "child": `
input: {type: object, required: [n], properties: {n: {type: integer}}}
steps:
  - shell: '1: child'
  - if: input.n == 3
    fail: it is three
output: "${{ input.n * 2 }}"
`}},
	"lists": {files: map[string]string{"w": `
steps:
  - id: each
    foreach: [1, 2, 3, 4, 5]
    as: n
    parallel: 3
    on_error: continue
    do:
      - id: x
        shell: '2: $N'
        env: {N: "${{ string(n) }}"}
      - if: n == 4
        fail: no four
    output: "${{ steps.x.stdout }}"
  - id: p
    parallel:
      l: [{id: lx, shell: '1: left'}, {sleep: 3s}]
      r: [{id: rx, sleep: 1s}, {id: ry, shell: right}]
  - id: poll
    repeat: 4
    every: 20s
    until: index == 2
    do: [{id: q, shell: '1: poll'}]
  - group:
      - shell: in
      - id: bad
        shell: exit 9
    catch: [{log: "caught ${{ error.reason }}"}, {shell: caught}]
    finally: [{shell: swept}]
    on_error: continue
output:
  items: "${{ steps.each.?items.orValue([]) }}"
  failed: "${{ steps.each.?failed.orValue(0) }}"
  rounds: "${{ steps.poll.rounds }}"
`}},
	"failures": {files: map[string]string{"w": `
steps:
  - id: a
    shell: flaky 3
    retry: {attempts: 4, backoff: 10s}
  - id: made
    shell: made
    undo: [{shell: '1: unmade'}]
  - id: g
    group:
      - shell: inner
        undo: [{shell: inner unmade}, {sleep: 5s}]
      - id: r
        shell: exit 2
        retry: {attempts: 2, backoff: 5s}
catch: [{shell: caught}]
finally: [{shell: '1: swept'}]
`}},
	"nobody knows": {files: map[string]string{"w": `
steps:
  - id: a
    shell: vanish
    on_unknown: continue
  - id: b
    shell: vanish 2
    safety: idempotent
  - id: c
    shell: vanish 2
    on_unknown: retry
    retry: {attempts: 3, backoff: 1s}
  - id: d
    shell: vanish
output: "${{ steps.a.status }}"
`}},
}

// began reports whether a step of a run has begun.
func (b *bench) began(id, path string) bool {
	b.Helper()
	all, err := b.store.ListSteps(b.Context(), id, 0, 1000)
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range all {
		if r.Path == path {
			return true
		}
	}
	return false
}

// once gives a run a signal, however often it is called.
func (b *bench) once(id, name, message, body string) {
	b.Helper()
	if _, _, err := b.runs.Signal(b.Context(), run.Signalling{
		Tenant: session.DefaultTenant, RunID: id, Name: name, Body: []byte(body), MessageID: message,
	}); err != nil {
		b.Fatal(err)
	}
}

// approve approves what the step of a path asks, if that is open.
func (b *bench) approve(path string) {
	b.Helper()
	open := approval.Open
	all, _, err := b.store.ListApprovals(b.Context(), approval.Filter{
		Tenant: session.DefaultTenant, State: &open, Limit: 100,
	})
	if err != nil {
		b.Fatal(err)
	}
	for i := range all {
		if all[i].Subject.Path[0].Description != path {
			continue
		}
		if _, _, err := approval.NewService(b.store, nil).Decide(b.Context(), approval.Decision{
			Tenant: session.DefaultTenant, ID: all[i].ID, Digest: all[i].Digest, Approve: true,
			By: audit.Who{Kind: "client", Role: "approver", Name: "ann"},
		}); err != nil {
			b.Fatal(err)
		}
	}
}

// why is a failure as a story tells it.
func why(f *step.Failure) string {
	if f == nil {
		return ""
	}
	return " " + f.Reason + " " + f.Step
}

// blows are the ways in which a replica ends at a commit.
var blows = []struct {
	name string
	do   func(b *bench)
	// after says that the commit is written before, and that nobody hears of that.
	after bool
}{
	{"killed before", func(b *bench) { b.kill() }, false},
	{"killed after", func(b *bench) { b.kill() }, true},
	{"drained before", (*bench).quit, false},
	{"drained after", (*bench).quit, true},
}

// Whenever its owner ends, a run comes to the same, and does everything once. The long form has every blow at every
// commit, the short one one of them at every third.
func TestRunsSurviveADeathAtEveryCommit(t *testing.T) {
	for name, life := range lives {
		t.Run(name, func(t *testing.T) {
			var quiet string
			commits := 0
			try(t, life.files, func(b *bench) {
				id := b.begin("w", `{}`)
				b.live(id, life.others)
				b.consistent(id)
				quiet, commits = b.story(id), b.store.count()
			})
			for n := 1; n <= commits; n++ {
				for i, blow := range blows {
					if !long && (n%3 != 0 || n/3%len(blows) != i) {
						continue
					}
					t.Run(fmt.Sprint(blow.name, " ", n), func(t *testing.T) {
						try(t, life.files, func(b *bench) {
							b.store.at(n, strike{blow.after, func() { blow.do(b) }})
							id := b.begin("w", `{}`)
							b.live(id, life.others)
							b.consistent(id)
							same(t, b.story(id), quiet, life.unsure)
						})
					})
				}
			}
		})
	}
}

// same fails unless two stories are the same, but for requests of which nobody knows what has become of them: their
// steps say so, and they were made at most once.
func same(t *testing.T, got, want string, unsure []string) {
	t.Helper()
	have, missing := strings.Split(got, "\n"), strings.Split(want, "\n")
	for _, path := range unsure {
		begins := func(what string) func(string) bool {
			return func(line string) bool { return strings.HasPrefix(line, what) }
		}
		if !slices.ContainsFunc(have, begins("record "+path+" http unknown")) {
			continue
		}
		for _, what := range []string{"record " + path + " http", "request POST /" + path} {
			before := len(have)
			have, missing = slices.DeleteFunc(have, begins(what)), slices.DeleteFunc(missing, begins(what))
			if before-len(have) > 1 {
				t.Errorf("%d lines begin with %q", before-len(have), what)
			}
		}
	}
	var more []string
	for _, line := range have {
		if i := slices.Index(missing, line); i >= 0 {
			missing = slices.Delete(missing, i, i+1)
		} else {
			more = append(more, line)
		}
	}
	if len(more)+len(missing) > 0 {
		t.Errorf("it came to\n%s\nrather than to\n%s", strings.Join(more, "\n"), strings.Join(missing, "\n"))
	}
}
