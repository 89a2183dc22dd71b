package agent

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// MaxFile bounds the size of a definition's file.
const MaxFile = 1 << 20

var agentName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)

// Parse reads one definition: YAML front matter between two lines of ---, then the instructions. file is for errors only. With a
// lookup, every variable that env refers to must be set; nil skips that check. All problems are reported together, one line
// each; each is an ErrInvalid that names file, line and key.
func Parse(name, file string, src []byte, lookup Lookup) (Definition, error) {
	p := &parser{file: file, lookup: lookup}
	d := defaults(name)
	p.parse(&d, src)
	if len(p.problems) > 0 {
		return Definition{}, p.err()
	}
	return d, nil
}

// parser collects the problems of one file.
type parser struct {
	file     string
	lookup   Lookup
	problems []problem
}

type problem struct {
	line int // 0 is the whole file
	key  string
	text string
}

func (p *parser) report(line int, key, format string, args ...any) {
	p.problems = append(p.problems, problem{line, key, fmt.Sprintf(format, args...)})
}

// err is the problems in the order of the file.
func (p *parser) err() error {
	slices.SortStableFunc(p.problems, func(a, b problem) int { return cmp.Compare(a.line, b.line) })
	list := make([]error, len(p.problems))
	for i, pr := range p.problems {
		where := p.file
		if pr.line > 0 {
			where += ":" + strconv.Itoa(pr.line)
		}
		if pr.key != "" {
			where += ": " + pr.key
		}
		list[i] = ErrInvalid.With("%s: %s", where, pr.text)
	}
	return errors.Join(list...)
}

func (p *parser) parse(d *Definition, src []byte) {
	switch {
	case !agentName.MatchString(d.Name):
		p.report(0, "", "%q cannot be an agent's name: it must begin with a letter and have at most 64 letters, digits, _ and -", d.Name)
	case len(src) > MaxFile:
		p.report(0, "", "is larger than 1 MiB")
		return
	case !utf8.Valid(src):
		p.report(0, "", "is not UTF-8")
		return
	case bytes.IndexByte(src, 0) >= 0:
		p.report(0, "", "contains a NUL character")
		return
	}
	front, body, ok := split(string(src))
	if !ok {
		p.report(1, "", "must begin with front matter: YAML between two lines of ---")
		return
	}
	d.Instructions = body
	root := p.document(front)
	if len(p.problems) > 0 {
		return
	}
	p.definition(d, root)
}

// split separates front matter and body. The front matter keeps its line numbers: an empty line stands for the opening ---.
func split(src string) (front, body string, ok bool) {
	src = strings.ReplaceAll(strings.TrimPrefix(src, "\ufeff"), "\r\n", "\n")
	first, rest, _ := strings.Cut(src, "\n")
	if strings.TrimRight(first, " \t") != "---" {
		return "", "", false
	}
	var b strings.Builder
	b.WriteByte('\n')
	for rest != "" {
		var line string
		line, rest, _ = strings.Cut(rest, "\n")
		if strings.TrimRight(line, " \t") == "---" {
			return b.String(), strings.TrimSpace(rest), true
		}
		b.WriteString(line + "\n")
	}
	return "", "", false
}

// document parses the YAML to its one root node, nil when it is empty. Nothing is expanded: anchors, aliases and tags are refused
// before any value is read.
func (p *parser) document(front string) *yaml.Node {
	dec := yaml.NewDecoder(strings.NewReader(front))
	var doc, more yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		if err = dec.Decode(&more); err == nil {
			p.report(more.Line, "", "front matter must be a single YAML document")
			return nil
		}
	}
	if !errors.Is(err, io.EOF) {
		line, text := yamlError(err)
		p.report(line, "", "%s", text)
		return nil
	}
	p.plain(&doc)
	if len(doc.Content) == 0 {
		return nil
	}
	return doc.Content[0]
}

var (
	yamlLine = regexp.MustCompile(`^(?:line (\d+): )?((?s).*)$`)
	// yamlParser are the errors of the library's parser, whose line numbers, unlike its scanner's, begin at 0.
	yamlParser = regexp.MustCompile(`^did not find expected (<|node content|'-' indicator|key|',')|^found (undefined tag|duplicate %|incompatible)`)
)

// yamlError takes the line number out of the library's error: where the construct begins that is wrong.
func yamlError(err error) (line int, text string) {
	m := yamlLine.FindStringSubmatch(strings.TrimPrefix(err.Error(), "yaml: "))
	line, _ = strconv.Atoi(m[1])
	if yamlParser.MatchString(m[2]) {
		line++
	}
	return max(line, 1), "not valid YAML: " + m[2]
}

// plain refuses what a definition has no use for and an attacker has.
func (p *parser) plain(n *yaml.Node) {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		p.report(n.Line, "", "anchors and aliases are not allowed")
		return
	case n.Style&yaml.TaggedStyle != 0:
		p.report(n.Line, "", "tags are not allowed")
		return
	}
	for _, child := range n.Content {
		p.plain(child)
	}
}
