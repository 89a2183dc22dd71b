package openapi

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"html/template"
	"maps"
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
	t, err := template.New("page").Funcs(template.FuncMap{"json": indent, "lines": paragraphs}).Parse(page)
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
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		item, _ := paths[path].(object)
		for _, method := range slices.Sorted(maps.Keys(item)) {
			op, _ := item[method].(object)
			tags, _ := op["tags"].([]any)
			if len(tags) == 0 {
				continue
			}
			i := at[tags[0].(string)]
			all[i].Operations = append(all[i].Operations, operation{strings.ToUpper(method), path, op})
		}
	}
	return all
}

func indent(v any) (string, error) {
	body, err := json.MarshalIndent(v, "", "  ")
	return string(body), err
}

// paragraphs splits a text at its empty lines.
func paragraphs(text any) []string {
	s, _ := text.(string)
	return strings.Split(strings.TrimSpace(s), "\n\n")
}
