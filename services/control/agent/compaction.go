package agent

import (
	"math"

	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/model"
)

// Compaction says when a conversation is summarised, and by whom. Sizes are tokens; 0 is the default.
type Compaction struct {
	// Off leaves conversations as they are until a provider says that one is too long, or somebody asks for a summary.
	Off     bool       `json:"off,omitempty"`
	Reserve int64      `json:"reserve,omitempty"` // of the window, for the answer
	Keep    int64      `json:"keep,omitempty"`    // recent entries that no summary stands for
	Window  int64      `json:"window,omitempty"`  // of the agent's model, where the catalogue is wrong
	Model   *model.Ref `json:"model,omitempty"`   // that writes summaries; nil is the agent's own
}

// Compacts is what the definition says of compaction.
func (d Definition) Compacts() Compaction {
	if d.Compaction == nil {
		return Compaction{}
	}
	return *d.Compaction
}

func (p *parser) compaction(d *Definition, key string, n *yaml.Node) {
	c := &Compaction{}
	if n.Kind != yaml.MappingNode {
		if _, ok := p.Word(key, n, "off"); ok {
			c.Off, d.Compaction = true, c
		}
		return
	}
	p.Mapping(n, key,
		document.Key("reserve", func(key string, n *yaml.Node) { c.Reserve, _ = p.Count(key, n, math.MaxInt32) }),
		document.Key("keep", func(key string, n *yaml.Node) { c.Keep, _ = p.Count(key, n, math.MaxInt32) }),
		document.Key("window", func(key string, n *yaml.Node) { c.Window, _ = p.Count(key, n, math.MaxInt32) }),
		document.Key("model", func(key string, n *yaml.Node) {
			if ref, ok := p.ref(key, n); ok {
				c.Model = &ref
			}
		}),
	)
	if *c != (Compaction{}) {
		d.Compaction = c
	}
}
