package wire

import (
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/model"
)

// A call is asked for where that breaks neither caches nor thoughts, and only of servers that know how.
func TestACallIsAskedFor(t *testing.T) {
	for _, c := range []struct {
		target Target
		must   bool
		want   bool
	}{
		{Target{API: model.APIResponses}, true, true},
		{Target{API: model.APIResponses}, false, false},
		{Target{API: model.APIChat, Own: true}, true, true},
		{Target{API: model.APIChat}, true, false},
		{Target{API: model.APIAnthropic, Own: true}, true, false},
	} {
		tools, err := EncodeTools(c.target, []model.Tool{{Name: "t", Schema: []byte(`{"type":"object"}`)}}, false)
		if err != nil {
			t.Fatal(err)
		}
		head := Head{Request: model.Request{MustCall: c.must}, Tools: tools}
		if got := strings.Contains(string(head.Append(nil, c.target)), `"tool_choice":"required"`); got != c.want {
			t.Errorf("%s, own %v: %v", c.target.API, c.target.Own, got)
		}
		head.Tools = nil
		if strings.Contains(string(head.Append(nil, c.target)), "tool_choice") {
			t.Errorf("%s: a call is asked for where there is no tool", c.target.API)
		}
	}
	strict, err := EncodeTools(Target{API: model.APIResponses}, []model.Tool{
		{Name: "a", Schema: []byte(`{"type":"object"}`), Strict: true},
		{Name: "b", Schema: []byte(`{"type":"object"}`)},
	}, false)
	if err != nil || strings.Count(string(strict), `"strict":true`) != 1 ||
		strings.Count(string(strict), `"strict":false`) != 1 {
		t.Errorf("the tools are %s, %v", strict, err)
	}
}
