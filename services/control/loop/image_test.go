package loop_test

import (
	"bytes"
	"image"
	"image/png"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
)

// What enters a conversation stays in it: an image that providers refuse would make every later request fail.
func TestOnlyImagesThatProvidersTakeEnterAConversation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var file bytes.Buffer
		if err := png.Encode(&file, image.NewGray(image.Rect(0, 0, 9000, 3))); err != nil {
			t.Fatal(err)
		}
		def := agent.Shell()
		def.Tools = []string{builtin.NameRead}
		b := newBench(t, def)
		b.die()
		b.executor.on = func(o *call.Order) tool.Reply {
			data := file.Bytes()
			if o.Request.(tool.ReadText).Path == "cut.png" {
				data = data[:len(data)-20]
			}
			return tool.TextReply{Image: data}
		}
		m := modeltest.New(
			modeltest.Ask(
				model.Block{CallID: "1", Tool: "read", Args: []byte(`{"path":"large.png"}`)},
				model.Block{CallID: "2", Tool: "read", Args: []byte(`{"path":"cut.png"}`)},
			),
			modeltest.Say("done"),
		)
		b.model = m
		b.start(def)
		b.expect(b.wait(b.submit("s", "look").ID), lane.Completed, "done")
		asked := m.Requests()
		told := asked[len(asked)-1].Messages
		large, cut := told[len(told)-2].Content[0], told[len(told)-1].Content[0]
		if large.Image == nil || large.IsError || !strings.HasSuffix(large.Text, "is shown as image/png of 2000 x 1.") {
			t.Errorf("of the large image it was told %q", large.Text)
		} else if c, err := png.DecodeConfig(bytes.NewReader(large.Image.Data)); err != nil || c.Width != 2000 {
			t.Errorf("the large image has %d pixels a line, %v", c.Width, err)
		}
		if cut.Image != nil || !cut.IsError || !strings.Contains(cut.Text, "The image cannot be shown") {
			t.Errorf("of the cut image it was told %q", cut.Text)
		}
	})
}
