package model

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/services/control/document"
)

// maxImages bounds max_images: no API takes more in one request.
const maxImages = 10_000

// reserved are the parameters without which a request would not be the one that control means to make.
var reserved = []string{
	"messages", "input", "contents", "system", "instructions", "systemInstruction", "tools", "toolConfig", "stream",
}

// settings are the keys that a provider and a model share.
func (p *providers) settings(s *Settings) []document.Field {
	return []document.Field{
		document.Key("api", func(key string, n *yaml.Node) {
			api, _ := p.Word(key, n, string(APIAnthropic), string(APIChat), string(APIResponses),
				string(APIGemini), string(APIConverse))
			s.API = API(api)
		}),
		document.Key("headers", func(key string, n *yaml.Node) { s.Headers = p.headers(key, n) }),
		document.Key("query", func(key string, n *yaml.Node) { s.Query = p.query(key, n) }),
		document.Key("extra_body", func(key string, n *yaml.Node) { s.ExtraBody = p.body(key, n) }),
		document.Key("drop", func(key string, n *yaml.Node) { s.Drop = p.drop(key, n) }),
		document.Key("timeouts", func(key string, n *yaml.Node) { s.Timeouts = p.timeouts(key, n) }),
		document.Key("max_images", func(key string, n *yaml.Node) {
			v, _ := p.Count(key, n, maxImages)
			s.MaxImages = int(v)
		}),
	}
}

func (p *providers) headers(key string, n *yaml.Node) map[string]Secret {
	headers := map[string]Secret{}
	p.Pairs(n, key, func(name, key string, k, v *yaml.Node) {
		canonical := http.CanonicalHeaderKey(name)
		if _, twice := headers[canonical]; twice {
			p.Report(document.At(k), key, "is given twice")
			return
		}
		headers[canonical] = ""
		if !validHeader(canonical) {
			p.Report(document.At(k), key, "is not a header that can be set")
		}
		if value, ok := p.secret(key, v); ok {
			headers[canonical] = value
		}
	})
	return headers
}

func (p *providers) query(key string, n *yaml.Node) map[string]Secret {
	query := map[string]Secret{}
	p.Pairs(n, key, func(name, key string, k, v *yaml.Node) {
		if name == "" || strings.ContainsFunc(name, notPrintable) {
			p.Report(document.At(k), key, "cannot be a parameter's name: it must not be empty or contain blanks")
		}
		if value, ok := p.secret(key, v); ok {
			query[name] = value
		}
	})
	return query
}

// secret reads a text in which ${NAME} is a variable.
func (p *providers) secret(key string, n *yaml.Node) (Secret, bool) {
	value, ok := p.Text(key, n, maxHeader)
	if !ok {
		return "", false
	}
	template, ok := p.Template(key, n, value, p.lookup)
	if !ok {
		return "", false
	}
	value = strings.TrimSpace(template.Expand(p.lookup))
	if strings.ContainsFunc(value, unicode.IsControl) {
		p.Report(document.At(n), key, "must not contain line breaks or other control characters")
		return "", false
	}
	return Secret(value), true
}

// validHeader reports whether a header of this canonical name may be configured.
func validHeader(name string) bool {
	for _, c := range name {
		if c <= ' ' || c >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, c) {
			return false
		}
	}
	switch name {
	case "", "Host", "Content-Length", "Content-Type", "Transfer-Encoding", "Connection":
		return false
	}
	return true
}

func (p *providers) body(key string, n *yaml.Node) map[string]json.RawMessage {
	body := map[string]json.RawMessage{}
	p.Pairs(n, key, func(name, key string, k, v *yaml.Node) {
		if slices.Contains(reserved, name) {
			p.Report(document.At(k), key, "is written by control and cannot be set")
			return
		}
		raw, err := toJSON(v)
		if err != nil {
			p.Report(document.At(v), key, "cannot be sent as JSON: %v", err)
			return
		}
		body[name] = raw
	})
	return body
}

// toJSON is a value of a YAML file as JSON. Its error does not repeat the value.
func toJSON(n *yaml.Node) (json.RawMessage, error) {
	switch n.Kind {
	case yaml.MappingNode:
		return toObject(n)
	case yaml.SequenceNode:
		list := []json.RawMessage{}
		for _, item := range n.Content {
			raw, err := toJSON(item)
			if err != nil {
				return nil, err
			}
			list = append(list, raw)
		}
		return json.Marshal(list)
	}
	switch n.ShortTag() {
	case "!!null":
		return json.RawMessage("null"), nil
	case "!!bool", "!!int", "!!float":
		var v any
		if n.Decode(&v) != nil {
			return nil, fmt.Errorf("%s is out of range", document.Kind(n))
		}
		raw, err := json.Marshal(v)
		if err != nil { // infinite, or not a number
			return nil, fmt.Errorf("%s must be finite", document.Kind(n))
		}
		return raw, nil
	case "!!str":
		return json.Marshal(n.Value)
	}
	return nil, fmt.Errorf("%s must be put in quotes", document.Kind(n))
}

func toObject(n *yaml.Node) (json.RawMessage, error) {
	object := map[string]json.RawMessage{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.Kind != yaml.ScalarNode || k.ShortTag() != "!!str" {
			return nil, fmt.Errorf("keys must be text, got %s", document.Kind(k))
		}
		if _, twice := object[k.Value]; twice {
			return nil, fmt.Errorf("%s is given twice", document.Printable(k.Value))
		}
		raw, err := toJSON(n.Content[i+1])
		if err != nil {
			return nil, err
		}
		object[k.Value] = raw
	}
	return json.Marshal(object)
}

// drop reads the names of parameters. The list is never nil, so that a model's empty one replaces its provider's.
func (p *providers) drop(key string, n *yaml.Node) []string {
	if n.Kind != yaml.SequenceNode {
		p.Report(document.At(n), key, "must be a list, got %s", document.Kind(n))
		return nil
	}
	names := []string{}
	for _, item := range n.Content {
		name, ok := p.Text(key, item, maxVariable)
		switch {
		case !ok:
		case !document.Variable(name):
			p.Report(document.At(item), key, "must hold names of parameters, such as stream_options")
		case slices.Contains(reserved, name):
			p.Report(document.At(item), key, "%s cannot be left out", name)
		case slices.Contains(names, name):
			p.Report(document.At(item), key, "%s is given twice", name)
		default:
			names = append(names, name)
		}
	}
	return names
}

func (p *providers) timeouts(key string, n *yaml.Node) TimeoutPolicy {
	var t TimeoutPolicy
	duration := func(to *time.Duration) func(string, *yaml.Node) {
		return func(key string, n *yaml.Node) { *to, _ = p.Duration(key, n) }
	}
	p.Mapping(n, key,
		document.Key("first", duration(&t.First)),
		document.Key("between", duration(&t.Between)),
		document.Key("call", duration(&t.Call)),
	)
	return t
}
