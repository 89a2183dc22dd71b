package agent

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/services/control/document"
)

// ReadSandbox reads where calls run. When ok is false the problem is reported.
func ReadSandbox(d *document.Document, key string, n *yaml.Node) (s Sandbox, ok bool) {
	if n.Kind != yaml.MappingNode {
		kind, ok := d.Word(key, n, string(SandboxLocal), string(SandboxNone))
		return Sandbox{Kind: SandboxKind(kind)}, ok
	}
	if k, _ := document.Find(n, "provider"); k != nil {
		d.Report(document.At(k), key+".provider", "not yet supported")
		return Sandbox{}, false
	}
	if k, _ := document.Find(n, "executor"); k == nil {
		d.Report(document.At(n), key, "must be local, none or {executor: {labels: {…}}}")
	}
	d.Mapping(n, key, document.Key("executor", func(key string, n *yaml.Node) {
		s, ok = Sandbox{Kind: SandboxExecutor, Labels: map[string]string{}}, true
		if _, labels := document.Find(n, "labels"); labels == nil || len(labels.Content) == 0 {
			d.Report(document.At(n), key, "must have labels that say which executors will do")
		}
		d.Mapping(n, key, document.Key("labels", func(key string, n *yaml.Node) { readLabels(d, s.Labels, key, n) }))
	}))
	return s, ok
}

func readLabels(d *document.Document, labels map[string]string, key string, n *yaml.Node) {
	d.Pairs(n, key, func(name, key string, k, v *yaml.Node) {
		value, ok := d.Text(key, v, maxLabel)
		switch {
		case !validLabel(name):
			d.Report(document.At(k), key, "cannot be a label: it must begin with a letter or digit and have at most "+
				"63 letters, digits and . _ / -")
		case ok && value == "":
			d.Report(document.At(v), key, "must not be empty")
		case ok:
			labels[name] = value
		}
	})
}

// validLabel reports whether s begins with a letter or digit and has at most 63 letters, digits and . _ / -.
func validLabel(s string) bool {
	for i, c := range []byte(s) {
		if !letter(c) && !digit(c) && (i == 0 || !strings.ContainsRune("._/-", rune(c))) {
			return false
		}
	}
	return s != "" && len(s) <= 63
}

// SandboxSchema is the JSON Schema of what ReadSandbox accepts.
func SandboxSchema() map[string]any {
	labels := map[string]any{
		"type": "object", "minProperties": 1,
		"propertyNames":        map[string]any{"pattern": `^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$`},
		"additionalProperties": map[string]any{"type": "string", "minLength": 1, "maxLength": maxLabel},
	}
	object := func(name string, of map[string]any) map[string]any {
		return map[string]any{
			"type": "object", "properties": map[string]any{name: of}, "required": []any{name},
			"additionalProperties": false,
		}
	}
	return map[string]any{"anyOf": []any{
		map[string]any{"enum": []any{string(SandboxLocal), string(SandboxNone)}},
		object("executor", object("labels", labels)),
	}}
}
