package modeltest_test

import (
	"testing"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
)

func TestScriptedKeepsTheContract(t *testing.T) {
	call := func(id string) model.Block { return model.Block{CallID: id, Tool: "ls", Args: []byte(`{"path":"."}`)} }
	think := modeltest.Reply{
		{Part: model.Part{Type: model.PartThinking, Text: "hm"}},
		{Part: model.Part{Type: model.PartBlock, Block: model.Block{Type: model.ThinkingBlock, Text: "hm"}}},
	}
	replies := map[modeltest.Scenario]modeltest.Reply{
		modeltest.Text:     modeltest.Say("hello  ", "wide world"),
		modeltest.Thinking: append(think, modeltest.Say(modeltest.Greeting)...),
		modeltest.Tools:    modeltest.Ask(call("1"), call("2")),
		modeltest.Failure:  modeltest.Fail(&model.Error{Kind: model.KindAuth, Text: "no"}),
		modeltest.Stall:    {modeltest.Delta("x"), modeltest.Hang()},
	}
	modeltest.Contract(t, modeltest.Subject{New: func(_ *testing.T, s modeltest.Scenario) (model.Model, model.Request,
		bool,
	) {
		m := modeltest.New()
		for range 8 {
			m.Add(replies[s])
		}
		return m, model.Request{}, replies[s] != nil
	}})
}

func TestReadFindsBrokenStreams(t *testing.T) {
	block := func(b model.Block) modeltest.Step {
		return modeltest.Step{Part: model.Part{Type: model.PartBlock, Block: b}}
	}
	finish := modeltest.Finish(model.StopEnd)
	broken := map[string]modeltest.Reply{
		"no end":          {modeltest.Delta("x")},
		"open block":      {modeltest.Delta("x"), finish},
		"another text":    {modeltest.Delta("x"), block(model.Block{Type: model.TextBlock, Text: "y"}), finish},
		"mixed deltas":    {modeltest.Delta("x"), {Part: model.Part{Type: model.PartThinking, Text: "y"}}},
		"after the end":   {finish, modeltest.Delta("x")},
		"empty block":     {block(model.Block{Type: model.TextBlock}), finish},
		"call without id": {block(model.Block{Type: model.ToolCallBlock, Tool: "a", Args: []byte("{}")}), finish},
		"call with bad JSON": {block(model.Block{
			Type: model.ToolCallBlock, CallID: "1", Tool: "a",
			Args: []byte("{"),
		}), finish},
		"tools without call": {modeltest.Finish(model.StopTools)},
		"no reason":          {{Part: model.Part{Type: model.PartFinish}}},
	}
	for name, r := range broken {
		if _, _, b := modeltest.Read(modeltest.New(r).Stream(t.Context(), model.Request{})); b == nil {
			t.Errorf("%s: not found", name)
		}
	}
}
