package agent_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/model"
)

func TestCompactionIsReadFromTheDefinition(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]agent.Compaction{
		"":                {},
		"compaction: off": {Off: true},
		"compaction: {}":  {},
		"compaction: {reserve: 10000, keep: 5000, window: 64000, model: test/small}": {
			Reserve: 10_000, Keep: 5_000, Window: 64_000, Model: &model.Ref{Provider: "test", ID: "small"},
		},
	} {
		d, err := agent.Parse("a", "a.md", []byte("---\nmodel: test/m\n"+line+"\n---\n"), nil, nil)
		if err != nil || !reflect.DeepEqual(d.Compacts(), want) {
			t.Errorf("%q: %+v, %v", line, d.Compacts(), err)
		}
	}
	for line, want := range map[string]string{
		"compaction: on":            "must be one of off",
		"compaction: {reserve: -1}": "compaction.reserve",
		"compaction: {kept: 1}":     "compaction.kept",
		"compaction: {model: x}":    "compaction.model",
	} {
		_, err := agent.Parse("a", "a.md", []byte("---\nmodel: test/m\n"+line+"\n---\n"), nil, nil)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "a.md:3") {
			t.Errorf("%q: %v", line, err)
		}
	}
}
