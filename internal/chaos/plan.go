package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/chaos/check"
)

// Everything in this file, and in schedule.go, follows from the seed alone.

// prompt is a prompt with what its client does with it.
type prompt struct {
	check.Prompt
	text    string
	via     way
	dies    time.Duration // the client leaves that long after it began; 0 is never
	abort   time.Duration // after the admission; 0 is never
	again   bool          // the key is used again with another message
	pause   time.Duration // before the next one
	patient time.Duration // for one attempt
	busy    pawlv1.WhenBusy
	compact bool              // a summary of the conversation is asked for afterwards
	verdict map[string]string // what is decided about its commands, by token
}

// way is how a prompt is made.
type way int

const (
	viaSubmit way = iota // gRPC, and waits
	viaPrompt            // gRPC, events
	viaHTTP
	viaSSE
	ways
)

// author writes the prompts of one session.
type author struct {
	rng     *rand.Rand
	session string
	effects string // file
	mix     mix
	n       int
	verdict map[string]string // of the prompt at hand
}

func newAuthor(seed uint64, session int, dir string, m mix) *author {
	name := sessionName(session)
	return &author{
		rng: rand.New(rand.NewPCG(seed, uint64(session)+1)), session: name,
		effects: filepath.Join(dir, name), mix: m,
	}
}

func between(r *rand.Rand, lo, hi time.Duration) time.Duration {
	return lo + time.Duration(r.Int64N(int64(hi-lo)+1))
}

// next is the session's next prompt.
func (a *author) next() *prompt {
	a.n++
	r := a.rng
	a.verdict = map[string]string{}
	p := &prompt{
		verdict: a.verdict,
		via:     way(r.IntN(int(ways))), pause: between(r, 0, 400*time.Millisecond), patient: between(r, time.Second,
			6*time.Second),
		Prompt: check.Prompt{ID: fmt.Sprintf("%s.p%03d", a.session, a.n), Session: a.session},
	}
	if r.IntN(8) > 0 {
		p.Key = "key-" + p.ID
		p.again = r.IntN(10) == 0
	}
	if r.IntN(4) == 0 {
		p.dies = between(r, time.Millisecond, 500*time.Millisecond)
	}
	if r.IntN(100) < a.mix.aborts {
		p.abort, p.via = between(r, 0, 1500*time.Millisecond), viaSubmit // the other ways tell no id in time
	}
	if n := r.IntN(100); n < a.mix.steers {
		p.busy = pawlv1.WhenBusy_WHEN_BUSY_STEER
	} else if n < a.mix.steers+a.mix.interrupts {
		p.busy = pawlv1.WhenBusy_WHEN_BUSY_INTERRUPT
	}
	p.compact = r.IntN(100) < a.mix.compacts
	var lines []string
	if r.IntN(12) > 0 {
		for t := range 1 + r.IntN(2) {
			if r.IntN(100) < a.mix.tasks {
				turn, more := a.tasks(fmt.Sprintf("%s.t%d", p.ID, len(p.Turns)), 1, p.abort > 0)
				p.Turns, lines = append(p.Turns, turn), append(lines, more...)
				continue
			}
			if r.IntN(10) == 0 {
				turns, more := a.change(fmt.Sprintf("%s.t%d", p.ID, len(p.Turns)),
					fmt.Sprintf("%s.t%d", p.ID, len(p.Turns)+1))
				p.Turns, lines = append(p.Turns, turns...), append(lines, more...)
				continue
			}
			t = len(p.Turns)
			var turn []check.Command
			for i := range 1 + r.IntN(5)/3 {
				cmd, line := a.command(fmt.Sprintf("%s.t%d.c%d", p.ID, t, i), p.abort > 0)
				if i > 0 {
					line = "& " + line
				}
				turn, lines = append(turn, cmd), append(lines, line)
			}
			p.Turns = append(p.Turns, turn)
		}
	} else {
		lines = []string{"say: " + p.ID}
	}
	p.text = strings.Join(lines, "\n")
	return p
}

// maxDepth is how deep sub-agents work for sub-agents.
const maxDepth = 2

// tasks is a turn of sub-agents that work side by side, some beside a command. at names the turn.
func (a *author) tasks(at string, depth int, long bool) (turn []check.Command, lines []string) {
	n := 1 + a.rng.IntN(3)
	for i := range n {
		token := fmt.Sprintf("%s.c%d", at, i)
		cmd, line := a.task(token, depth, long)
		if i == 2 {
			cmd, line = a.command(token, long)
		}
		if i > 0 {
			line = "& " + line
		}
		turn, lines = append(turn, cmd), append(lines, line)
	}
	return turn, lines
}

// task is what a sub-agent is asked for: to say something, or commands and sub-agents of its own.
func (a *author) task(token string, depth int, long bool) (check.Command, string) {
	c := check.Command{Token: token, Tool: "task"}
	if a.rng.IntN(4) == 0 {
		c.Output[0] = token
		return c, "task: say: " + token
	}
	var lines []string
	for t := range 1 + a.rng.IntN(2) {
		at := fmt.Sprintf("%s.t%d", token, t)
		if depth < maxDepth && a.rng.IntN(3) == 0 {
			turn, more := a.tasks(at, depth+1, long)
			c.Turns, lines = append(c.Turns, turn), append(lines, more...)
			continue
		}
		cmd, line := a.command(at+".c0", long)
		c.Turns, lines = append(c.Turns, []check.Command{cmd}), append(lines, line)
	}
	args, err := json.Marshal(map[string]string{"description": token, "prompt": strings.Join(lines, "\n")})
	if err != nil {
		panic(err) // of two strings
	}
	return c, "tool task: " + string(args)
}

// change is two turns: a file is written, which may happen twice, and then edited, which may not: every edit adds a
// mark.
func (a *author) change(first, second string) (turns [][]check.Command, lines []string) {
	write, edit := check.Command{Token: first + ".c0", Tool: "write"}, check.Command{
		Token: second + ".c0",
		Tool:  "edit",
	}
	path := filepath.Join(filepath.Dir(a.effects), filesDir, edit.Token)
	return [][]check.Command{{write}, {edit}}, []string{
		fmt.Sprintf(`tool write: {"content": "%s: %s", "path": %q}`, write.Token, edit.Token, path),
		fmt.Sprintf(`tool edit: {"path": %q, "oldText": %q, "newText": %q}`, path, edit.Token, edit.Token+check.Mark),
	}
}

// filesDir is where files are edited, below the effects.
const filesDir = "files"

// command is a command with its one line for the effects file somewhere in the middle of what it does.
func (a *author) command(token string, long bool) (check.Command, string) {
	r, c := a.rng, check.Command{Token: token}
	nap := func(most time.Duration) string { return fmt.Sprintf("sleep %.3f", between(r, 0, most).Seconds()) }
	most := 500 * time.Millisecond
	if long {
		most = 2 * time.Second
	}
	if a.mix.wide && r.IntN(2) == 0 {
		most = 8 * time.Second
	}
	steps := []string{nap(most), fmt.Sprintf("echo %s >> %s", token, a.effects), nap(most)}
	switch out := r.IntN(20); {
	case out < 8:
		c.Output[0] = "out " + token + "\n"
		steps = append(steps, "echo out "+token)
	case out < 12: // slowly
		for i := 1; i <= 4; i++ {
			c.Output[0] += fmt.Sprintf("%s %d\n", token, i)
		}
		steps = append(steps, fmt.Sprintf(`for i in 1 2 3 4; do echo %s $i; sleep 0.15; done`, token))
	case out < 15: // a lot
		n := 1000 + r.IntN(8000)
		if r.IntN(a.mix.huge) == 0 {
			n = 70000 // more than a window
		}
		var b strings.Builder
		for i := 1; i <= n; i++ {
			fmt.Fprintf(&b, "%s %d\n", token, i)
		}
		c.Output[0] = b.String()
		steps = append(steps, fmt.Sprintf("seq -f '%s %%.0f' 1 %d", token, n))
	case out < 17:
		c.Output[0], c.Output[1] = "out "+token+"\n", "err "+token+"\n"
		steps = append(steps, fmt.Sprintf("echo out %s; echo err %s >&2", token, token))
	}
	switch r.IntN(8) { // a child that wants to stay, and one that does not even obey
	case 0:
		c.Stays = true
		steps = slices.Insert(steps, 1, "(setsid sleep 300 >/dev/null 2>&1 &)")
	case 1:
		c.Stays = true
		steps = slices.Insert(steps, 1, "(trap '' TERM; setsid sleep 300 >/dev/null 2>&1 &)")
	}
	if r.IntN(8) == 0 {
		c.Exit = 3
		steps = append(steps, "exit 3")
	}
	if r.IntN(100) < a.mix.gates {
		steps = append(a.gate(&c), steps...)
	}
	return c, strings.Join(steps, "; ")
}

// gatesDir is where commands about which rules ask write when they began, below the effects.
const gatesDir = "gates"

// gate makes a command one about which a rule has something to say, and decides what is decided about it. It returns
// what the command does first.
func (a *author) gate(c *check.Command) (first []string) {
	n := a.rng.IntN(20)
	some := []string{decideYes, decideYes, decideYes, decideNo, decideBoth, decideTwice}
	switch {
	case n < 2:
		c.Gate = check.GateNever
	case n < 12:
		c.Gate = check.GateAsk
	case n < 17:
		c.Gate, some = check.GateSoon, append(some, decideNone, decideNone, decideNone)
	default:
		c.Gate, some = check.GateAnyway, append(some, decideNone, decideNone, decideNone)
	}
	a.verdict[c.Token] = some[a.rng.IntN(len(some))]
	began := filepath.Join(filepath.Dir(a.effects), gatesDir, c.Token)
	return []string{": " + c.Gate, "cut -d ' ' -f 1 /proc/uptime >> " + began}
}
