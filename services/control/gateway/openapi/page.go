package openapi

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
)

//go:embed page.html
var page string

// Page is the document as a page for people. It loads nothing and runs nothing.
var Page = sync.OnceValues(func() ([]byte, error) {
	doc, err := build()
	if err != nil {
		return nil, err
	}
	t, err := template.New("page").Funcs(template.FuncMap{
		"fields": fields, "kind": kindOf, "lines": paragraphs, "prose": prose, "values": values,
	}).Parse(page)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, object{
		"Info": doc["info"], "Groups": groups(doc),
		"Schemas": doc["components"].(object)["schemas"],
	})
	return out.Bytes(), err
})

// group is the operations of one service.
type group struct {
	Name, Description string
	Operations        []operation
}

type operation struct {
	Method, Path string
	Op           object
}

// groups are a document's operations by service, in the order of its tags.
func groups(doc object) []group {
	var all []group
	at := map[string]int{}
	for _, t := range doc["tags"].([]any) {
		tag, _ := t.(object)
		name, _ := tag["name"].(string)
		said, _ := tag["description"].(string)
		at[name] = len(all)
		all = append(all, group{Name: strings.TrimSuffix(name, "Service"), Description: said})
	}
	paths, _ := doc["paths"].(object)
	for _, route := range slices.Sorted(maps.Keys(paths)) {
		item, _ := paths[route].(object)
		for _, method := range slices.Sorted(maps.Keys(item)) {
			op, _ := item[method].(object)
			tags, _ := op["tags"].([]any)
			if len(tags) == 0 {
				continue
			}
			i := at[tags[0].(string)]
			all[i].Operations = append(all[i].Operations, operation{strings.ToUpper(method), route, op})
		}
	}
	return all
}

// field is one of an object in JSON.
type field struct {
	Name, Description string
	Kind              kind
	Required          bool
}

// kind is what a field holds. Schema is the name of its schema, "" for none that has a name.
type kind struct{ Text, Schema string }

// fields are those of a schema, by name.
func fields(schema any) (all []field) {
	s, _ := schema.(object)
	properties, _ := s["properties"].(object)
	required, _ := s["required"].([]any)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		one, _ := properties[name].(object)
		said, _ := one["description"].(string)
		all = append(all, field{name, said, kindOf(one), slices.Contains(required, any(name))})
	}
	return all
}

// kindOf names what a schema describes.
func kindOf(schema any) kind {
	s, _ := schema.(object)
	if ref, ok := s["$ref"].(string); ok {
		name := path.Base(ref)
		return kind{strings.TrimPrefix(name, "pawl.v1."), name}
	}
	if items, ok := s["items"]; ok {
		of := kindOf(items)
		return kind{"list of " + of.Text, of.Schema}
	}
	if values, ok := s["additionalProperties"].(object); ok {
		of := kindOf(values)
		return kind{"map to " + of.Text, of.Schema}
	}
	text, _ := s["type"].(string)
	if text == "" {
		text = "any"
	}
	if format, ok := s["format"].(string); ok && format != "enum" {
		text += ", " + format
	}
	return kind{Text: text}
}

// values are those of an enumeration.
func values(schema any) (all []string) {
	s, _ := schema.(object)
	listed, _ := s["enum"].([]any)
	for _, v := range listed {
		all = append(all, fmt.Sprint(v))
	}
	return all
}

// code is a piece of text between backquotes.
var code = regexp.MustCompile("`([^`]+)`")

// prose shows as code what stands between backquotes.
func prose(text any) template.HTML {
	s, _ := text.(string)
	escaped := template.HTMLEscapeString(s)
	return template.HTML(code.ReplaceAllString(escaped, "<code>$1</code>")) //nolint:gosec // it was escaped
}

// paragraphs splits a text at its empty lines.
func paragraphs(text any) []string {
	s, _ := text.(string)
	return strings.Split(strings.TrimSpace(s), "\n\n")
}
