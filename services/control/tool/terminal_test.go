package tool

import (
	"fmt"
	"strings"
	"testing"
)

// What a terminal would show in the end.
func TestPlain(t *testing.T) {
	progress := ""
	for i := range 201 {
		progress += fmt.Sprintf("\r%3d%%", i)
	}
	for name, c := range map[string]struct{ output, want string }{
		"text":                {"a\n\tb  \n", "a\n\tb  \n"},
		"colours":             {"\x1b[31mred\x1b[0m \x1b[1;38;5;12mblue\x1b[m", "red blue"},
		"progress":            {progress + "\ndone\n", "200%\ndone\n"},
		"a bar over a longer": {"downloading\r\x1b[Kdone\n", "done\n"},
		"cleared with spaces": {"working\r       \rok     \n", "ok\n"},
		"rest of a line":      {"abcdef\rxy\n", "xycdef\n"},
		"CRLF":                {"a\r\nb\r\n", "a\nb\n"},
		"CR twice":            {"a\r\r\nb", "a\nb"},
		"bold by overstrike":  {"N\bNA\bAM\bME\bE _\bx", "NAME x"},
		"spinner":             {"wait |\b/\b-\b\\\b \n", "wait\n"},
		"several lines": {
			"a 1%\nb 1%\n\x1b[2A\x1b[2Ka 50%\n\x1b[2Kb 50%\n\x1b[2A\x1b[2Ka 100%\x1b[E\x1b[2Kb 100%\n",
			"a 100%\nb 100%\n",
		},
		"erased below":       {"a\nb\nc\x1b[2A\r\x1b[Jd\n", "d\n"},
		"columns":            {"ab\x1b[6Gx\x1b[2Dyz\x1b[C!", "ab  yz !"},
		"erase to the start": {"abcdef\x1b[3D\x1b[1Kx", "   xef"},
		"title":              {"\x1b]0;title\a\x1b]2;title\x1b\\a\u009dtitle\u009cb", "ab"},
		"title without end":  {"\x1b]0;title\na", "\na"},
		"link":               {"\x1b]8;;http://x\x1b\\here\x1b]8;;\x1b\\", "here"},
		"device":             {"\x1bPq#0\x1b\\a\x1b_x\x1b\\b", "ab"},
		"character set":      {"\x1b(Ba\x1b)0b\x1b=c\x1b>d", "abcd"},
		"8-bit":              {"\u009b31mred\u0085", "red"},
		"bell":               {"a\a\v\f\x0e\x0fb\x7f", "ab"},
		"cut":                {"a\x1b[3", "a"},
		"escape alone":       {"a\x1b", "a"},
		"no sequence":        {"a\x1b[3\nb\x1b\nc", "a\nb\nc"},
		"clear":              {"before\n\x1b[H\x1b[2J\x1b[3Jone\ntwo\n\x1b[H\x1b[2Jthree\n", "before\nthree\n"},
		"frames":             {"x\n\x1b[Hone\x1b[K\nold\x1b[J\x1b[Hnew\x1b[K\n\x1b[J", "x\nnew\n"},
		"placed":             {"\x1b[2;3Hx\x1b[1dy", "   y\n  x"},
		"full screen":        {"a\n\x1b[?1049h\x1b[Htext\n~\n\x1b[?1049lb\n", "a\nb\n"},
		"other modes":        {"\x1b[?25la\x1b[?2004h\x1b[?25h", "a"},
		"saved place":        {"ab\x1b7cd\x1b8x\x1b[s1\x1b[u2", "abx2"},
		"up":                 {"a\nb\x1bMx\x1b[10Ay\x1b[10Bz", "axy\nb  z"},
		"other bytes":        {"\xe9\x1b[1m\xff\rx", "x\uFFFD"},
		"NUL":                {"a\x00\x1b[mb", "a\x00b"},
		"wide":               {"żółw 🦀\rZ\n", "Zółw 🦀\n"},
		"private parameters": {"\x1b[>4;2ma\x1b[ qb\x1b[!p", "ab"},
	} {
		t.Run(name, func(t *testing.T) {
			got := plain(c.output)
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if again := plain(got); again != got {
				t.Errorf("again: %q", again)
			}
		})
	}
}

// Output cannot make much more of itself than it is.
func TestPlainIsBounded(t *testing.T) {
	for _, piece := range []string{
		"\x1b[999999999Cx\n", "\x1b[999999G#\x1b[1B", "\x1b[?1049h\x1b[999H", "\x1b[?1049l\x1b[?1049h\x1b[999H",
		"\x1b[2J\x1b[999;999Hx", "\x1b[999E\x1b[99M",
	} {
		output := strings.Repeat(piece, 64<<10/len(piece))
		if got := plain(output); len(got) > len(output)+maxPadding+2*maxRow {
			t.Errorf("%q: %d bytes of %d", piece, len(got), len(output))
		}
	}
}

func TestCleanOutput(t *testing.T) {
	secrets := []string{"topsecret", "\x1b[1mhidden"}
	for name, c := range map[string]struct{ in, want ExecReply }{
		"a secret within sequences": {
			ExecReply{Stdout: Captured{Head: []byte("tops\x1b[1mec"), Tail: []byte("ret\n")}},
			ExecReply{Stdout: Captured{Head: []byte("[redacted]\n"), Tail: []byte{}}},
		},
		"drawn in two steps": {
			ExecReply{Stderr: Captured{Head: []byte("topse...\b\b\bcret")}},
			ExecReply{Stderr: Captured{Head: []byte("[redacted]"), Tail: []byte{}}},
		},
		"sequences in a secret": {
			ExecReply{Stdout: Captured{Head: []byte("a\x1b[1mhidden")}}, ExecReply{
				Stdout: Captured{Head: []byte("a[redacted]"), Tail: []byte{}},
			},
		},
		"with a gap": {
			ExecReply{Stdout: Captured{Head: []byte("1%\r2%"), Tail: []byte("98%\r99%\n"), Cut: 5, Size: 100}},
			ExecReply{Stdout: Captured{Head: []byte("2%"), Tail: []byte("99%\n"), Cut: 5, Size: 100}},
		},
	} {
		got := Clean(c.in, secrets).(ExecReply)
		for i, s := range [][2]Captured{{got.Stdout, c.want.Stdout}, {got.Stderr, c.want.Stderr}} {
			g, w := s[0], s[1]
			if string(g.Head) != string(w.Head) || string(g.Tail) != string(w.Tail) || g.Cut != w.Cut ||
				g.Size != w.Size {
				t.Errorf("%s, stream %d: got %q %q, want %q %q", name, i, g.Head, g.Tail, w.Head, w.Tail)
			}
		}
	}
	// Without secrets, too.
	got := Clean(ExecReply{Stdout: Captured{Head: []byte("\x1b[1ma")}}, nil).(ExecReply)
	if string(got.Stdout.Head) != "a" {
		t.Errorf("got %q", got.Stdout.Head)
	}
	if got := Clean(Failure{Message: "\x1b[1mno"}, nil).(Failure); got.Message != "no" {
		t.Errorf("got %q", got.Message)
	}
}

func FuzzPlain(f *testing.F) {
	for _, s := range []string{
		"a\x1b[1mb\r\n", "\x1b[2J\x1b[H\x1b[?1049h\x1b[3;4Hx\x1b[?1049l",
		"\x1b]0;x\a\x1bP\x1b\\", "\u009b1A\x1b7\x1b8\x1b[J",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, output string) {
		got := plain(output)
		if strings.ContainsFunc(got, isControl) {
			t.Fatalf("control characters are left: %q", got)
		}
		if len(got) > 3*len(output)+maxPadding+2*maxRow {
			t.Fatalf("%d bytes of %d", len(got), len(output))
		}
		if again := plain(got); again != got {
			t.Fatalf("%q becomes %q", got, again)
		}
	})
}
