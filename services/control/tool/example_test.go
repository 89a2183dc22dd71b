package tool_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
)

// Remember is what the tool of the example asks for.
type Remember struct {
	Fact string `json:"fact"`
}

// A tool is one Spec. This one is carried out by control itself; everything else about its calls is the same for all.
func Example() {
	remember, err := tool.Define(tool.Spec{
		Name: "remember", Description: "Keep a fact.", Safety: tool.Idempotent, Source: "the example",
		Schema: json.RawMessage(`{"type": "object", "properties": {"fact": {"type": "string"}}, "required": ["fact"]}`),
		How: tool.ByControl(
			func(_ context.Context, c tool.Call) (tool.Reply, error) {
				return tool.Answer{Text: "Kept: " + c.Request.(Remember).Fact}, nil
			},
			func(_ Remember, a tool.Answer) tool.Result { return tool.RenderAnswer(a, nil) },
		),
	})
	if err != nil {
		panic(err)
	}
	all, err := builtin.Tools().With(remember)
	if err != nil {
		panic(err)
	}
	offered := all.Offer([]string{"read", "remember"}, 10)
	asked := offered.Read(model.Message{Content: []model.Block{{
		Type: model.ToolCallBlock, CallID: "1", Tool: "remember", Args: json.RawMessage(`{"fact": "water is wet"}`),
	}}})
	reply, err := asked[0].Call.Run(context.Background(), slog.Default())
	if err != nil {
		panic(err)
	}
	stored, err := tool.Encode(reply)
	if err != nil {
		panic(err)
	}
	read, err := all.Decode("remember", stored)
	if err != nil {
		panic(err)
	}
	fmt.Println(offered.Names(), asked[0].Call.Tool.Kind())
	fmt.Println(asked[0].Result(read).Text)
	// Output:
	// [read remember] control
	// Kept: water is wet
}
