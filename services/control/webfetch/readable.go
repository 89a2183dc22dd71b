package webfetch

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// readable makes text of HTML: paragraphs, headings, lists, rows of tables and links in the form of Markdown. It reads
// tokens and makes no tree, so that its cost is linear, whatever a page nests. It ends, short, where the text has
// maxPage bytes: the base of a page stands before each of its links.
func readable(page string, base *url.URL) (title, text string, short bool) {
	w := &writer{base: base}
	z := html.NewTokenizer(strings.NewReader(page))
	for w.out.Len() <= maxPage {
		switch z.Next() {
		case html.ErrorToken: // the end, as the input is in memory
			return strings.TrimSpace(w.title.String()), tidy(w.out.String()), false
		case html.TextToken:
			w.text(string(z.Text()))
		case html.StartTagToken:
			t := z.Token()
			w.start(t)
		case html.SelfClosingTagToken:
			t := z.Token()
			w.start(t)
			w.end(t.DataAtom)
		case html.EndTagToken:
			t := z.Token()
			w.end(t.DataAtom)
		}
	}
	return strings.TrimSpace(w.title.String()), tidy(w.out.String()), true
}

// maxBase bounds the URL that a page says its links begin with: each link costs it once.
const maxBase = 2 << 10

// writer writes the text of a page.
type writer struct {
	base    *url.URL
	out     strings.Builder
	title   strings.Builder
	inTitle bool
	pre     int
	space   bool   // a space stands before the next word
	links   []link // that are open
	// skipped is the element that is left out with all that is in it, depth how many of its kind are open.
	skipped atom.Atom
	depth   int
}

// link is one whose text is written.
type link struct {
	target string // "" is none that is shown
	at     int    // where its text begins
}

// hidden are elements that have no text for readers.
var hidden = []atom.Atom{
	atom.Script, atom.Style, atom.Template, atom.Svg, atom.Noscript, atom.Iframe, atom.Object, atom.Canvas, atom.Select,
	atom.Audio, atom.Video, atom.Math, atom.Datalist,
}

// void are elements that never have an end.
var void = []atom.Atom{
	atom.Area, atom.Base, atom.Br, atom.Col, atom.Embed, atom.Hr, atom.Img, atom.Input, atom.Link, atom.Meta,
	atom.Param, atom.Source, atom.Track, atom.Wbr,
}

// blocks are elements that stand on lines of their own.
var blocks = []atom.Atom{
	atom.Address, atom.Article, atom.Aside, atom.Blockquote, atom.Body, atom.Dd, atom.Details, atom.Dialog, atom.Div,
	atom.Dl, atom.Dt, atom.Fieldset, atom.Figcaption, atom.Figure, atom.Footer, atom.Form, atom.Header, atom.Main,
	atom.Nav, atom.Section, atom.Summary, atom.Tr,
}

// paragraphs are blocks with an empty line around.
var paragraphs = []atom.Atom{
	atom.P, atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6, atom.Pre, atom.Ul, atom.Ol, atom.Table, atom.Hr,
}

var headings = []atom.Atom{atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6}

func attribute(t html.Token, name string) (string, bool) {
	for _, a := range t.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

// invisible reports whether a page says of an element that nobody sees it.
func invisible(t html.Token) bool {
	style, _ := attribute(t, "style")
	style = strings.ToLower(strings.Join(strings.Fields(style), ""))
	_, isHidden := attribute(t, "hidden")
	return isHidden || strings.Contains(style, "display:none") || strings.Contains(style, "visibility:hidden")
}

func (w *writer) start(t html.Token) {
	a := t.DataAtom
	if w.skipped != 0 {
		if a == w.skipped {
			w.depth++
		}
		return
	}
	if !slices.Contains(void, a) && (slices.Contains(hidden, a) || a != 0 && invisible(t)) {
		w.skipped, w.depth = a, 1
		return
	}
	switch {
	case a == atom.Title:
		w.inTitle = true
	case slices.Contains(paragraphs, a):
		w.breakLine(2)
	case slices.Contains(blocks, a):
		w.breakLine(1)
	}
	switch a {
	case atom.Base:
		if href, ok := attribute(t, "href"); ok && len(href) <= maxBase {
			if u, err := w.base.Parse(href); err == nil {
				w.base = u
			}
		}
	case atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6:
		w.out.WriteString(strings.Repeat("#", slices.Index(headings, a)+1) + " ")
	case atom.Br:
		w.out.WriteByte('\n')
		w.space = false
	case atom.Li:
		w.breakLine(1)
		w.out.WriteString("- ")
	case atom.Hr:
		w.out.WriteString("---")
		w.breakLine(2)
	case atom.Pre:
		w.pre++
		w.out.WriteString("```\n")
	case atom.Td, atom.Th:
		if last := w.last(); last != '\n' && last != 0 {
			w.out.WriteString(" | ")
			w.space = false
		}
	case atom.Img:
		if alt, _ := attribute(t, "alt"); strings.TrimSpace(alt) != "" {
			w.text("[image: " + strings.TrimSpace(alt) + "]")
		}
	case atom.A:
		w.openLink(t)
	}
}

func (w *writer) end(a atom.Atom) {
	if w.skipped != 0 {
		if a == w.skipped {
			if w.depth--; w.depth == 0 {
				w.skipped = 0
			}
		}
		return
	}
	switch {
	case a == atom.Title:
		w.inTitle = false
	case a == atom.Pre && w.pre > 0:
		w.pre--
		w.breakLine(1)
		w.out.WriteString("```")
		w.breakLine(2)
	case a == atom.A && len(w.links) > 0:
		w.closeLink()
	case slices.Contains(paragraphs, a):
		w.breakLine(2)
	case slices.Contains(blocks, a), a == atom.Li:
		w.breakLine(1)
	}
}

// maxLinks bounds how many links are open at once: a link within a link is a page's mistake.
const maxLinks = 8

func (w *writer) openLink(t html.Token) {
	if len(w.links) == maxLinks {
		return
	}
	href, _ := attribute(t, "href")
	target := ""
	if href != "" && !strings.HasPrefix(href, "#") && len(href) <= maxURL {
		u, err := w.base.Parse(strings.TrimSpace(href))
		if err == nil && (u.Scheme == "http" || u.Scheme == "https") {
			target = u.String()
		}
	}
	if w.space && target != "" {
		w.out.WriteByte(' ')
		w.space = false
	}
	if target != "" {
		w.out.WriteByte('[')
	}
	w.links = append(w.links, link{target, w.out.Len()})
}

func (w *writer) closeLink() {
	l := w.links[len(w.links)-1]
	w.links = w.links[:len(w.links)-1]
	if l.target != "" {
		w.out.WriteString("](" + l.target + ")")
	}
}

// text writes text: in <pre> as it is, elsewhere with one space for all white space.
func (w *writer) text(s string) {
	switch {
	case w.skipped != 0:
		return
	case w.inTitle:
		w.title.WriteString(strings.Join(strings.Fields(s), " "))
		return
	case w.pre > 0:
		w.out.WriteString(s)
		return
	}
	words := strings.Fields(s)
	if len(words) == 0 {
		w.space = w.space || s != ""
		return
	}
	if w.space || strings.ContainsAny(s[:1], " \t\r\n\f") {
		if last := w.last(); last != '\n' && last != ' ' && last != '[' && last != 0 {
			w.out.WriteByte(' ')
		}
	}
	w.out.WriteString(strings.Join(words, " "))
	w.space = strings.ContainsAny(s[len(s)-1:], " \t\r\n\f")
}

// last is the last byte that was written, 0 for none.
func (w *writer) last() byte {
	if s := w.out.String(); s != "" {
		return s[len(s)-1]
	}
	return 0
}

// breakLine ends the line, with so many line breaks at least.
func (w *writer) breakLine(n int) {
	w.space = false
	s := w.out.String()
	if s == "" {
		return
	}
	for i := len(s) - 1; i >= 0 && s[i] == '\n' && n > 0; i-- {
		n--
	}
	w.out.WriteString(strings.Repeat("\n", n))
}

var (
	emptyLines = regexp.MustCompile(`\n[ \t]*\n[ \t\n]*\n`)
	emptyLinks = regexp.MustCompile(`\[\s*\]\([^()\s]*\)`)
)

// tidy takes away links without a text, and more than one empty line.
func tidy(text string) string {
	return strings.TrimSpace(emptyLines.ReplaceAllString(emptyLinks.ReplaceAllString(text, ""), "\n\n"))
}
