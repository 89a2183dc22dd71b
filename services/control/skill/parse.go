package skill

import (
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

// Parse reads the SKILL.md of a skill of the project: src is its content, file its path for errors, folder the name of
// its folder, which the skill's must be. All problems are reported together, one line each; each is an ErrInvalid that
// names file, line, column and key.
func Parse(folder, file string, src []byte) (Skill, error) {
	p := &parser{Document: document.New(file), strict: true, folder: folder}
	s := p.parse(src)
	return s, p.Err(ErrInvalid)
}

// parser reads one file.
type parser struct {
	*document.Document
	strict   bool
	folder   string
	warnings []string
}

// complain reports what is wrong, as a problem of a skill of the project and as a warning of another.
func (p *parser) complain(at document.Position, key, format string, args ...any) {
	if p.strict {
		p.Report(at, key, format, args...)
		return
	}
	p.warnings = append(p.warnings, key+": "+fmt.Sprintf(format, args...))
}

func (p *parser) parse(src []byte) Skill {
	var s Skill
	if !p.Check(src) {
		return s
	}
	front, body, ok := document.FrontMatter(string(src))
	if !ok {
		p.Report(document.Top, "", "must begin with front matter: YAML between two lines of ---")
		return s
	}
	root, ok := p.Root("front matter", front)
	if !ok {
		return s
	}
	p.fields(&s, root)
	p.together(&s, root)
	switch lines := strings.Count(body, "\n") + 1; {
	case len(body) > MaxBody:
		p.complain(document.Whole, "", "the instructions have %d bytes, at most %d are possible; move what is "+
			"rarely needed into "+
			"files beside %s", len(body), MaxBody, FileName)
	case lines > MaxLines:
		p.complain(document.Whole, "", "the instructions have %d lines, at most %d are possible; move what is "+
			"rarely needed into "+
			"files beside %s", lines, MaxLines, FileName)
	case strings.TrimSpace(body) == "":
		p.complain(document.Whole, "", "has no instructions after the front matter")
	}
	s.Body = body
	return s
}

// fields reads the front matter.
func (p *parser) fields(s *Skill, root *yaml.Node) {
	if root == nil {
		return
	}
	if !p.strict {
		p.lenient(s, root)
		return
	}
	p.Mapping(root, "",
		document.Key("name", func(key string, n *yaml.Node) { s.Name, _ = p.Text(key, n, MaxName) }),
		document.Key("description", func(key string, n *yaml.Node) {
			s.Description, _ = p.Text(key, n, MaxDescription)
		}),
		document.Key("license", func(key string, n *yaml.Node) { p.Text(key, n, maxField) }),
		document.Key("compatibility", func(key string, n *yaml.Node) { p.Text(key, n, maxCompatibility) }),
		document.Key("metadata", func(key string, n *yaml.Node) {
			p.Pairs(n, key, func(_, key string, _, v *yaml.Node) { p.Text(key, v, maxField) })
		}),
		document.Key("allowed-tools", func(key string, n *yaml.Node) { p.allowed(s, key, n) }),
		document.Key("disable-model-invocation", func(key string, n *yaml.Node) { s.Hidden, _ = p.Bool(key, n) }),
	)
}

// allowed reads allowed-tools, a text or a list.
func (p *parser) allowed(s *Skill, key string, n *yaml.Node) {
	var value string
	switch n.Kind {
	case yaml.ScalarNode:
		value = n.Value
	case yaml.SequenceNode:
		for _, one := range n.Content {
			value += " " + one.Value
		}
	default:
		s.Allowed = []Grant{}
		p.complain(document.At(n), key, "must be the names of tools, separated by blanks")
		return
	}
	var bad []string
	s.Allowed, bad = grants(value)
	if len(bad) > 0 {
		p.complain(document.At(n), key, "%s cannot be read; it must be the name of a tool, or NAME(WORDS:*) for "+
			"the commands "+
			"that begin with these words", document.Printable(strings.Join(bad, ", ")))
	}
}

// together checks what must hold of the whole.
func (p *parser) together(s *Skill, root *yaml.Node) {
	at := func(key string) document.Position {
		if root != nil {
			if k, _ := document.Find(root, key); k != nil {
				return document.At(k)
			}
		}
		return document.Top
	}
	switch {
	case s.Name == "" && !p.strict:
		s.Name = p.folder
	case s.Name == "":
		p.Report(at("name"), "name", "is required: it is that of the folder, %s", document.Printable(p.folder))
	case s.Name != p.folder:
		p.complain(at("name"), "name", "%s is not the name of the folder, %s", document.Printable(s.Name),
			document.Printable(p.folder))
	}
	if s.Name != "" && !validName(s.Name) {
		p.complain(at("name"), "name", "%s must be 1 to %d of a-z, 0-9 and single hyphens between them",
			document.Printable(s.Name), MaxName)
	}
	if strings.TrimSpace(s.Description) == "" {
		p.Report(at("description"), "description", "is required: what the skill does, and when to use it")
	}
}

// Found is a skill of a workspace, or why it cannot be used.
type Found struct {
	Skill
	Path     string   // of its SKILL.md, from the working directory
	Warnings []string // what is wrong with it that does not matter
	Problem  string   // why it cannot be used; "" when it can. Skill.Name is the folder's name then
}

// Find reads the SKILL.md at a path of a workspace. It never fails: what is wrong is told.
func Find(file string, src []byte) Found {
	folder := path.Base(path.Dir(file))
	read := func(src []byte) (Found, error) {
		p := &parser{Document: document.New(FileName), folder: folder}
		f := Found{Path: file, Skill: p.parse(src)}
		f.Warnings = p.warnings
		return f, p.Err(ErrInvalid)
	}
	f, err := read(src)
	if err != nil {
		if again := quoteColons(src); again != nil {
			if second, failed := read(again); failed == nil {
				second.Warnings = append(second.Warnings, "a text with a colon was not quoted")
				f, err = second, nil
			}
		}
	}
	if err == nil && !validName(f.Name) {
		f.Name = folder
		if !validName(folder) {
			err = ErrInvalid.With("%s: no skill can have the name %s", FileName, document.Printable(folder))
		}
	}
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return Found{Skill: Skill{Name: folder}, Path: file, Problem: first}
	}
	f.Body = shorten(f.Body)
	return f
}

// shorten cuts instructions to what one result of a tool shows.
func shorten(body string) string {
	cut := body
	if lines := strings.SplitAfterN(cut, "\n", MaxLines+1); len(lines) > MaxLines {
		cut = strings.Join(lines[:MaxLines], "")
	}
	if len(cut) > MaxBody {
		cut = cut[:clip.Floor(cut, MaxBody)]
	}
	if len(cut) < len(body) {
		cut += fmt.Sprintf("\n[%d more bytes are in %s]", len(body)-len(cut), FileName)
	}
	return cut
}

// lenient reads the front matter of a skill of a workspace: what it does not know it leaves alone.
func (p *parser) lenient(s *Skill, root *yaml.Node) {
	if root.Kind != yaml.MappingNode {
		p.Report(document.At(root), "", "front matter must be keys and values")
		return
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		k, v := root.Content[i], root.Content[i+1]
		switch k.Value {
		case "name":
			s.Name = p.short(k.Value, v, MaxName)
		case "description":
			s.Description = p.short(k.Value, v, MaxDescription)
		case "allowed-tools":
			p.allowed(s, k.Value, v)
		case "disable-model-invocation":
			s.Hidden = strings.EqualFold(v.Value, "true") || strings.EqualFold(v.Value, "yes")
		}
	}
}

// short is a text of which the end is cut off beyond most characters.
func (p *parser) short(key string, n *yaml.Node, most int) string {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		p.complain(document.At(n), key, "must be text")
		return ""
	}
	text := strings.TrimSpace(n.Value)
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	p.complain(document.At(n), key, "has more than %d characters", most)
	return string([]rune(text)[:most])
}

// quoteColons is a file whose front matter has the values in quotes that hold a colon and no quotes yet: the most
// common fault, for which YAML takes the text for another mapping. nil when there is none.
func quoteColons(src []byte) []byte {
	lines := strings.Split(string(src), "\n")
	changed := false
	for i := 1; i < len(lines); i++ {
		line := strings.TrimRight(lines[i], "\r")
		if strings.TrimRight(line, " \t") == "---" {
			break
		}
		key, value, ok := strings.Cut(line, ": ")
		value = strings.TrimSpace(value)
		if !ok || strings.TrimLeft(key, " \t") != key || !strings.Contains(value, ":") ||
			strings.ContainsAny(value[:1], `"'|>[{`) {
			continue
		}
		lines[i] = key + ": '" + strings.ReplaceAll(value, "'", "''") + "'"
		changed = true
	}
	if !changed {
		return nil
	}
	return []byte(strings.Join(lines, "\n"))
}
