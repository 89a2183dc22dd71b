package builtin_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
)

// A call that was accepted is shown as what it came to, whatever the loop is offered.
func TestAcceptedCallsAreShownWithoutTheToolsOfTheLoop(t *testing.T) {
	said := tool.ExecReply{Stdout: tool.Captured{Head: []byte("out")}, Confirmed: true}
	answer := tool.Answer{Text: "x"}
	for name, c := range map[string]struct {
		tool, args string
		kind       tool.Kind
		safety     tool.Safety
		reply      tool.Reply
		want       string
	}{
		"bash":           {"bash", `{"command":"c"}`, tool.KindExecutor, tool.AtMostOnce, said, "out"},
		"a command tool": {"deploy", `{"to":"x"}`, tool.KindExecutor, tool.AtMostOnce, said, "out"},
		"bash, odd":      {"bash", `[]`, tool.KindExecutor, tool.AtMostOnce, said, "out"},
		"a task":         {"task", `{"prompt":"p","agent":"a"}`, tool.KindTask, tool.AtMostOnce, answer, "x"},
		"a task, odd":    {"task", `{}`, tool.KindTask, tool.AtMostOnce, answer, "x"},
		"write": {
			"write", `{"path":"p","content":"c"}`, tool.KindExecutor, tool.Idempotent,
			tool.WriteReply{},
			"1 bytes to p",
		},
		"a function": {"write", `{"path":"p","content":"c"}`, tool.KindControl, tool.Pure, answer, "x"},
	} {
		b := model.Block{Type: model.ToolCallBlock, Tool: c.tool, Args: json.RawMessage(c.args)}
		res := builtin.Accepted(b, c.kind, c.safety).Result(c.reply)
		if res.IsError || !strings.HasSuffix(res.Text, c.want) {
			t.Errorf("%s: %+v", name, res)
		}
	}
}
