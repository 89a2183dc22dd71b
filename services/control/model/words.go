package model

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// Words is what a provider says in the body of an error, in its own words, whatever the shape: JSON that holds a
// message somewhere, other JSON as it is, the text of a page, plain text. It is "" for an empty body. It may hold
// secrets: see Redactor.
func Words(body []byte) string {
	body = bytes.TrimSpace(body)
	if v, ok := parseJSON(body); ok {
		var w words
		w.value(v, 0)
		if len(w.said) > 0 {
			return strings.Join(w.said, "; ")
		}
		var compact bytes.Buffer
		if json.Compact(&compact, body) == nil {
			return compact.String()
		}
	}
	if bytes.HasPrefix(body, []byte("<")) {
		return pageText(body)
	}
	return string(body)
}

// parseJSON reads one JSON value. A name that an object has twice has its last value.
func parseJSON(b []byte) (any, bool) {
	var v any
	err := json.Unmarshal(b, &v)
	return v, err == nil && v != nil
}

// speaking are the members in which servers put what a person should read, the most telling first. Providers nest them
// in each other in any order.
var speaking = []string{
	"error", "message", "msg", "detail", "details", "error_description", "description", "reason", "title", "errors",
	"metadata", "raw", "body",
}

// maxDepth bounds how deep an error is searched.
const maxDepth = 16

// words collects what is said, each thing once.
type words struct{ said []string }

func (w *words) value(v any, depth int) {
	if depth > maxDepth {
		return
	}
	switch v := v.(type) {
	case string:
		w.text(v, depth)
	case []any:
		for _, item := range v {
			w.value(item, depth+1)
		}
	case map[string]any:
		w.object(v, depth)
	}
}

// text adds a text. Some providers wrap another provider's answer as JSON in a text.
func (w *words) text(s string, depth int) {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "{") || strings.HasPrefix(s, "[") {
		if inner, ok := parseJSON([]byte(s)); ok {
			before := len(w.said)
			if w.value(inner, depth+1); len(w.said) > before {
				return
			}
		}
	}
	if s != "" && !slices.Contains(w.said, s) {
		w.said = append(w.said, s)
	}
}

func (w *words) object(o map[string]any, depth int) {
	before := len(w.said)
	for _, name := range speaking {
		w.value(o[name], depth+1)
	}
	if path := location(o["loc"]); path != "" && len(w.said) > before {
		w.said[before] = path + ": " + w.said[before]
	}
}

// location is where in the request a validator found a fault, such as body.stream_options.
func location(v any) string {
	list, _ := v.([]any)
	var path []string
	for _, item := range list {
		if s, ok := item.(string); ok {
			path = append(path, s)
		}
	}
	return strings.Join(path, ".")
}

// pageText is the text of an HTML page: its title and what a browser shows.
func pageText(page []byte) string {
	var text []string
	hidden := false
	for z := html.NewTokenizer(bytes.NewReader(page)); ; {
		switch z.Next() {
		case html.ErrorToken: // the end
			return strings.Join(text, " ")
		case html.StartTagToken:
			name, _ := z.TagName()
			hidden = string(name) == "script" || string(name) == "style"
		case html.EndTagToken:
			hidden = false
		case html.TextToken:
			if !hidden {
				text = append(text, strings.Fields(string(z.Text()))...)
			}
		}
	}
}
