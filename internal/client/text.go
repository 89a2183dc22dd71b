package client

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/plural"
)

// oneLine is the first line of a text of others, with a mark when there are more, cut to a width.
func oneLine(s string, width int) string {
	s = strings.TrimSpace(s)
	first, rest, _ := strings.Cut(s, "\n")
	first = strings.ReplaceAll(cli.Visible(strings.TrimRight(first, "\r")), "\t", " ")
	more := ""
	if n := strings.Count(rest, "\n") + 1; rest != "" {
		more = fmt.Sprintf(" … +%s", plural.Of(n, "line"))
	}
	if room := width - utf8.RuneCountInString(more); utf8.RuneCountInString(first) > room {
		runes := []rune(first)
		return string(runes[:max(room-2, 8)]) + " …" + more
	}
	return first + more
}

// wrap breaks a text between words into lines of a width. All begin as the first one is indented, and by a space more.
func wrap(s string, width int) string {
	var b strings.Builder
	indent := s[:len(s)-len(strings.TrimLeft(s, " "))]
	b.WriteString(indent)
	column := len(indent)
	indent += " "
	for i, word := range strings.Fields(s) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case column+1+n > width:
			b.WriteString("\n" + indent)
			column = len(indent)
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}

// terminal is what is known of where something is written.
type terminal struct {
	is     bool // a terminal at all
	width  int  // columns; 0 when there are none to keep to
	colour bool
}

// look finds out where w leads.
func look(w io.Writer) terminal {
	f, ok := w.(*os.File)
	if !ok {
		return terminal{}
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return terminal{}
	}
	t := terminal{is: true, width: int(size.Col)}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		t.width = n
	}
	if t.width < 20 {
		t.width = 80
	}
	t.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && os.Getenv("TERM") != ""
	return t
}
