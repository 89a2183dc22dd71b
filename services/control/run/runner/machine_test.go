package runner_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// machine is an executor that the test plays. It has files, and carries out each call at most once, whatever it is
// told. A command "N: rest" takes so many seconds, "exit N" ends with N, "flaky N" fails until it has run N
// times, "vanish" comes to an end that nobody sees, "vanish N" until it has run N times, "hold" runs until it is
// cancelled, and everything else prints itself.
type machine struct {
	mu      sync.Mutex // guards what follows
	deliver func(call.Report) bool
	orders  map[string]*call.Order // by call, of those that were begun
	revoked map[string]int         // by call: the last dispatch that is not carried out any more
	replies map[string]tool.Reply  // by call, of those that have ended
	files   map[string]string
	ran     map[string]int // how often a command that depends on it has run
	sent    []string       // "execute echo 1", "attach echo 1", …
}

func newMachine() *machine {
	return &machine{
		orders: map[string]*call.Order{}, revoked: map[string]int{}, replies: map[string]tool.Reply{},
		files: map[string]string{}, ran: map[string]int{},
	}
}

func (m *machine) info() fleet.Executor {
	return fleet.Executor{ID: "x1", Slots: 9, ConnectionEpoch: 1, Replica: "r", JournalID: "j"}
}

func (m *machine) Place(context.Context, fleet.Wanted) (fleet.Executor, bool, error) {
	return m.info(), true, nil
}

func (m *machine) Offering(context.Context, fleet.Wanted) (fleet.Executor, bool, error) {
	return m.info(), true, nil
}
func (m *machine) Find(context.Context, string) (fleet.Executor, error) { return m.info(), nil }
func (m *machine) Local(string) (fleet.Executor, bool)                  { return m.info(), true }
func (m *machine) TryDispatch(string, string) (fleet.Executor, bool)    { return m.info(), true }
func (m *machine) Wait(context.Context, call.Queued) error              { return nil }
func (m *machine) Freed(string, ...string)                              {}

// Send implements turn.Executors. What a dead replica sends does not arrive.
func (m *machine) Send(ctx context.Context, _ string, message call.Message) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch message := message.(type) {
	case *call.Order:
		m.order(message)
	case *call.Attach:
		m.sent = append(m.sent, "attach "+m.command(message.CallID))
		m.tell(message.CallID, message.LaneID, message.Dispatch, message.StdoutFrom)
	case *call.Cancel:
		m.sent = append(m.sent, "cancel "+m.command(message.CallID))
		if m.orders[message.CallID] != nil {
			go m.end(message.CallID, tool.ExecReply{ExitCode: 143, Cancelled: true, Confirmed: true, Whole: true})
		} else {
			m.tell(message.CallID, message.LaneID, 0, 0)
		}
	}
	return nil
}

// order begins a call, unless it was begun, or was said to be unknown. The mutex is held.
func (m *machine) order(o *call.Order) {
	id := o.Call.ID
	switch {
	case m.orders[id] != nil && (o.Call.Dispatch <= m.orders[id].Call.Dispatch || !interrupted(m.replies[id])):
		m.tell(id, o.LaneID, o.Call.Dispatch, 0)
	case m.revoked[id] >= o.Call.Dispatch && m.revoked[id] > 0:
		go m.report(id, o.LaneID, call.Rejected{Epoch: o.Epoch, Reason: "REVOKED"})
	default:
		m.orders[id] = o
		delete(m.replies, id)
		m.sent = append(m.sent, "execute "+m.command(id))
		go m.execute(o)
	}
}

// interrupted reports whether nobody has seen the end of a call: it is carried out again when it is asked for again.
func interrupted(reply tool.Reply) bool {
	f, ok := reply.(tool.Failure)
	return ok && f.Reason == tool.ReasonInterrupted
}

// tell says what is known of a call, with the output from an offset on. The mutex is held.
func (m *machine) tell(id, lane string, dispatch int, from int64) {
	reply, ended := m.replies[id]
	switch {
	case m.orders[id] == nil:
		m.revoked[id] = max(m.revoked[id], dispatch)
		go m.report(id, lane, call.Found{Dispatch: dispatch, Journal: "j"})
	case ended:
		go m.report(id, lane, result(reply, from)...)
	default:
		go m.report(id, lane, call.Found{State: call.RunningThere, Dispatch: dispatch, Journal: "j"})
	}
}

// result is the output of a call from an offset on, and its end.
func result(reply tool.Reply, from int64) (all []call.ReportBody) {
	if x, ok := reply.(tool.ExecReply); ok && from < x.Stdout.Size {
		all = append(all, call.Output{Offset: from, Data: x.Stdout.Head[from:]})
	}
	return append(all, call.Ended{Reply: reply})
}

// report says something of a call, in order.
func (m *machine) report(id, lane string, all ...call.ReportBody) {
	m.mu.Lock()
	deliver := m.deliver
	m.mu.Unlock()
	for _, body := range all {
		deliver(call.Report{Executor: "x1", CallID: id, LaneID: lane, Body: body})
	}
}

// command names a call. The mutex is held.
func (m *machine) command(callID string) string {
	o := m.orders[callID]
	if o == nil {
		return "nothing"
	}
	switch q := o.Request.(type) {
	case tool.Exec:
		return q.Command
	case tool.ReadFile:
		return "read " + q.Path
	case tool.WriteFile:
		return "write " + q.Path
	default:
		return fmt.Sprintf("%T", q)
	}
}

func (m *machine) execute(o *call.Order) {
	switch q := o.Request.(type) {
	case tool.Exec:
		if q.Command != "hold" {
			m.end(o.Call.ID, m.run(q))
		}
	case tool.ReadFile:
		m.end(o.Call.ID, m.read(q.Path))
	case tool.WriteFile:
		m.mu.Lock()
		m.files[q.Path] = string(q.Content)
		m.mu.Unlock()
		sum := sha256.Sum256([]byte(q.Content))
		m.end(o.Call.ID, tool.WriteReply{Size: int64(len(q.Content)), SHA256: sum[:]})
	}
}

func (m *machine) read(path string) tool.Reply {
	m.mu.Lock()
	defer m.mu.Unlock()
	content, ok := m.files[path]
	if !ok {
		return tool.Failure{Reason: "NOT_FOUND", Message: "there is no file " + path}
	}
	sum := sha256.Sum256([]byte(content))
	return tool.FileReply{Content: []byte(content), SHA256: sum[:]}
}

func (m *machine) run(q tool.Exec) tool.Reply {
	command := q.Command
	var seconds, n int
	if got, _ := fmt.Sscanf(command, "%d:", &seconds); got == 1 {
		elapse(time.Duration(seconds) * time.Second)
		_, command, _ = strings.Cut(command, ": ")
	}
	reply := tool.ExecReply{Confirmed: true, Whole: q.Whole}
	got, _ := fmt.Sscanf(command, "vanish %d", &n)
	if command == "vanish" || got == 1 && m.early(command, n) {
		return tool.Failure{Reason: tool.ReasonInterrupted, Message: "the machine went down"}
	}
	if got, _ := fmt.Sscanf(command, "exit %d", &reply.ExitCode); got == 1 {
		return reply
	}
	if got, _ := fmt.Sscanf(command, "flaky %d", &n); got == 1 {
		if m.early(command, n) {
			reply.ExitCode = 1
		}
	}
	for name, value := range q.Env {
		command = strings.ReplaceAll(command, "$"+name, value)
	}
	command += string(q.Input)
	reply.Stdout = tool.Captured{Head: []byte(command), Size: int64(len(command))}
	return reply
}

// early reports whether a command has run less than n times, this one included.
func (m *machine) early(command string, n int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ran[command]++
	return m.ran[command] < n
}

// end ends a call.
func (m *machine) end(callID string, reply tool.Reply) {
	m.mu.Lock()
	if _, over := m.replies[callID]; over {
		m.mu.Unlock()
		return
	}
	m.replies[callID] = reply
	o := m.orders[callID]
	m.mu.Unlock()
	m.report(callID, o.LaneID, result(reply, 0)...)
}

// executed are the calls that were carried out.
func (m *machine) executed() (all []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range m.sent {
		if command, ok := strings.CutPrefix(one, "execute "); ok {
			all = append(all, command)
		}
	}
	return all
}

// running are the calls that have not ended.
func (m *machine) running() (all []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.orders {
		if m.replies[id] == nil {
			all = append(all, m.command(id))
		}
	}
	return all
}
