package skill

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// Attribute is a name and a value of a tag.
type Attribute struct{ Name, Value string }

// Quote is a text between tags, which it cannot end: an end tag within it is no tag any more. Attributes without a
// value are left out.
func Quote(tag string, attributes []Attribute, text string) string {
	var b strings.Builder
	b.WriteString("<" + tag)
	for _, a := range attributes {
		if a.Value != "" {
			b.WriteString(" " + a.Name + `="` + attribute.Replace(Line(a.Value)) + `"`)
		}
	}
	b.WriteString(">\n" + Inert(text))
	if !strings.HasSuffix(text, "\n") {
		b.WriteByte('\n')
	}
	b.WriteString("</" + tag + ">")
	return b.String()
}

var attribute = strings.NewReplacer(`"`, "&quot;", "<", "&lt;", ">", "&gt;")

// tags are those that this platform writes into conversations.
var tags = regexp.MustCompile(`(?i)<(\s*/?\s*(?:workspace|skill|workflow)(?:_[a-z]+)?\b)`)

// Inert is a text in which the tags that this platform writes are none any more.
func Inert(text string) string { return tags.ReplaceAllString(text, "&lt;$1") }

// Line keeps a text of a workspace, as the name of a file, from adding lines to what a model is told.
func Line(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }) {
		return strconv.Quote(s)
	}
	return s
}
