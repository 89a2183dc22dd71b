package builtin

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

func TestRenderBoundsSearches(t *testing.T) {
	var g tool.GrepReply
	var l tool.GlobReply
	for i := range 1001 {
		g.Matches = append(g.Matches, tool.Match{Path: "a", Line: int64(i), Text: "x"})
		l.Paths = append(l.Paths, "a")
	}
	got := render(tool.Grep{}, g)
	if !strings.HasSuffix(got.Text, "\na:99: x\n\n[Showing 100 of 1001 matches. Narrow your search.]") {
		t.Errorf("got %s", got.Text)
	}
	got = render(tool.Glob{}, l)
	if strings.Count(got.Text, "a\n") != 1000 || !strings.HasSuffix(got.Text, "\n\n[Showing 1000 of 1001 paths. "+
		"Narrow the pattern.]") {
		t.Errorf("got %s", got.Text)
	}
	for i := range l.Paths {
		l.Paths[i] = strings.Repeat("p", 1000)
	}
	got = render(tool.Glob{}, l)
	if !strings.HasSuffix(got.Text, "\n\n[Showing 51 of 1001 paths. Narrow the pattern.]") {
		t.Errorf("got %s", got.Text[len(got.Text)-100:])
	}
	path := render(tool.Glob{}, tool.GlobReply{Paths: []string{strings.Repeat("p", 5000)}})
	if path.Text != strings.Repeat("p", clip.MaxPath)+"..." {
		t.Errorf("got %d bytes", len(path.Text))
	}
}

func TestRenderBoundsDiffs(t *testing.T) {
	got := render(tool.EditFile{Path: "a"}, tool.EditReply{Diff: numbered(1, 2010)}).Text
	want := "Successfully edited a\n\n" + numbered(1, 2000) + "[... 99 more bytes of the diff cut ...]"
	if got != want {
		t.Errorf("got %s", got[len(got)-100:])
	}
	got = render(tool.EditFile{Path: "a"}, tool.EditReply{Diff: strings.Repeat("é", tool.MaxText)}).Text
	want = "Successfully edited a\n\n" + strings.Repeat("é",
		tool.MaxText/2) + "\n[... 51200 more bytes of the diff cut ...]"
	if got != want {
		t.Errorf("got %s", got[len(got)-100:])
	}
}

func TestRenderKeepsHeadAndTailOfOutput(t *testing.T) {
	lines := render(tool.Exec{}, tool.ExecReply{Stdout: out(numbered(1, 5000)), ExitCode: 1}).Text
	if want := numbered(1, 800) + "[... 3008 lines, 29881 bytes cut ...]\n" +
		strings.TrimSuffix(numbered(3809, 5000), "\n") + "\n\nCommand exited with code 1"; lines != want {
		t.Errorf("got\n%s", lines)
	}
	exact := strings.TrimSuffix(numbered(1, 2000), "\n")
	if got := render(tool.Exec{}, tool.ExecReply{Stdout: out(exact)}).Text; got != exact {
		t.Error("2,000 lines must not be cut")
	}
	if got := render(tool.Exec{}, tool.ExecReply{Stdout: out(numbered(1, 2001))}).Text; !strings.Contains(got,
		"[... 9 lines, 81 bytes cut ...]") {
		t.Error("2,001 lines must be cut")
	}
	full := strings.Repeat("x", tool.MaxText)
	if got := render(tool.Exec{}, tool.ExecReply{Stdout: out(full)}).Text; got != full {
		t.Error("50 KB must not be cut")
	}
	got := render(tool.Exec{}, tool.ExecReply{Stdout: out("x" + strings.Repeat("é", tool.MaxText))}).Text
	want := "x" + strings.Repeat("é", outputHeadBytes/2-1) + "\n[... 1 lines, 51714 bytes cut ...]\n" +
		strings.Repeat("é", outputTailBytes/2)
	if got != want {
		t.Errorf("one long line: got %d bytes, want %d: %s", len(got), len(want),
			got[outputHeadBytes-10:outputHeadBytes+50])
	}
}

// The head ends and the tail begins at a line, unless that would throw away most of the room.
func TestRenderCutsOutputAtLines(t *testing.T) {
	text := strings.Repeat("a", 15000) + "\n" + strings.Repeat("b", 30000) + "\n" + strings.Repeat("c", 30000) + "\n" +
		strings.Repeat("d", 20000)
	got := render(tool.Exec{}, tool.ExecReply{Stdout: out(text)}).Text
	want := strings.Repeat("a", 15000) + "\n[... 2 lines, 60002 bytes cut ...]\n" + strings.Repeat("d", 20000)
	if got != want {
		t.Errorf("got %d bytes", len(got))
	}
	text = strings.Repeat("a", 9000) + "\n" + strings.Repeat("b", 60000) + "\n" + strings.Repeat("d", 9000)
	got = render(tool.Exec{}, tool.ExecReply{Stdout: out(text)}).Text
	want = strings.Repeat("a", 9000) + "\n" + strings.Repeat("b", outputHeadBytes-9001) +
		fmt.Sprintf("\n[... 1 lines, %d bytes cut ...]\n", len(text)-outputHeadBytes-outputTailBytes) +
		text[len(text)-outputTailBytes:]
	if got != want {
		t.Errorf("got %d bytes", len(got))
	}
}

// What the executor cut counts into the marker that swallows it, and keeps its own marker elsewhere.
func TestRenderAddsUpCuts(t *testing.T) {
	half := strings.Repeat("x", 64*1024)
	r := tool.ExecReply{Stdout: tool.Captured{Head: []byte(half), Tail: []byte(half), Cut: 1_000_000}}
	got := render(tool.Exec{}, r).Text
	if want := strings.Repeat("x", outputHeadBytes) + fmt.Sprintf("\n[... %d bytes cut ...]\n",
		2*65536-outputHeadBytes-outputTailBytes+1_000_000) + strings.Repeat("x", outputTailBytes); got != want {
		t.Errorf("got %d bytes", len(got))
	}
	r = tool.ExecReply{
		Stdout: tool.Captured{Head: []byte("first\n"), Tail: []byte(half), Cut: 7},
		Stderr: tool.Captured{Head: []byte("error\n"), Tail: []byte("last\n"), Cut: 9},
	}
	got = render(tool.Exec{}, r).Text
	if !strings.HasPrefix(got, "first\n[... 7 bytes cut ...]\nxx") || !strings.HasSuffix(got,
		"xx\nerror\n[... 9 bytes cut ...]\nlast") ||
		!strings.Contains(got, "x\n[... 1 lines, ") || strings.Count(got, "bytes cut") != 3 {
		t.Errorf("got %s … %s", got[:100], got[len(got)-100:])
	}
}

// Whatever an executor sends, a result stays within its bounds and can be stored.
func TestRenderNeverExceedsItsBounds(t *testing.T) {
	piece := rapid.Custom(func(t *rapid.T) string {
		unit := rapid.SampledFrom([]string{
			"x", "\n", "a line\n", "é", "\xff", "a\xff", "\x00", "世界\n", "\r\n",
			" ",
		}).Draw(t, "unit")
		return strings.Repeat(unit, rapid.SampledFrom([]int{0, 1, 3, 100, 2001, 20479, 51200, 70000}).Draw(t, "times"))
	})
	text := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(piece, 0, 4).Draw(t, "pieces"),
			"")
	})
	captured := rapid.Custom(func(t *rapid.T) tool.Captured {
		return tool.Captured{
			Head: []byte(text.Draw(t, "head")), Tail: []byte(text.Draw(t, "tail")),
			Cut: rapid.SampledFrom([]int64{-1, 0, 0, 5, 1 << 40}).Draw(t, "cut"),
		}
	})
	number := rapid.SampledFrom([]int64{-1, 0, 1, 2, 2000, 2001, 1 << 60})
	cases := []func(*rapid.T) (tool.Request, tool.Reply){
		func(t *rapid.T) (tool.Request, tool.Reply) {
			return tool.ReadText{
				Path: text.Draw(t, "path"), Offset: number.Draw(t, "offset"),
				Limit: number.Draw(t, "limit"),
			}, tool.TextReply{
				Content: []byte(text.Draw(t, "content")), FirstLine: number.Draw(t,
					"first"), TotalLines: number.Draw(t, "total"),
				LineCut: rapid.Bool().Draw(t, "cut"), Binary: rapid.Bool().Draw(t,
					"binary"), IsDir: rapid.Bool().Draw(t, "dir"),
				Entries: rapid.SliceOfN(piece, 0, 5).Draw(t, "entries"),
			}
		},
		func(t *rapid.T) (tool.Request, tool.Reply) {
			entries := make([]string, rapid.IntRange(0, 3000).Draw(t, "n"))
			name := piece.Draw(t, "name")
			for i := range entries {
				entries[i] = name
			}
			return tool.ReadText{Path: "d"}, tool.TextReply{IsDir: true, Entries: entries}
		},
		func(t *rapid.T) (tool.Request, tool.Reply) {
			return tool.EditFile{Path: text.Draw(t, "path")}, tool.EditReply{
				Replacements: rapid.Int().Draw(t, "n"),
				Diff:         text.Draw(t, "diff"),
			}
		},
		func(t *rapid.T) (tool.Request, tool.Reply) {
			return tool.WriteFile{Path: text.Draw(t, "path")}, tool.WriteReply{}
		},
		func(t *rapid.T) (tool.Request, tool.Reply) {
			return tool.Exec{Command: text.Draw(t, "command")}, tool.ExecReply{
				ExitCode: rapid.Int().Draw(t, "code"), Stdout: captured.Draw(t, "stdout"), Stderr: captured.Draw(t,
					"stderr"),
				TimedOut: rapid.Bool().Draw(t, "timed out"), Cancelled: rapid.Bool().Draw(t, "cancelled"),
			}
		},
		func(t *rapid.T) (tool.Request, tool.Reply) {
			m := match(piece.Draw(t, "path"), number.Draw(t, "line"), piece.Draw(t, "text"))
			return tool.Grep{}, tool.GrepReply{
				Total:   number.Draw(t, "total"),
				Matches: slices.Repeat([]tool.Match{m}, rapid.IntRange(0, 300).Draw(t, "n")),
			}
		},
		func(t *rapid.T) (tool.Request, tool.Reply) {
			paths := make([]string, rapid.IntRange(0, 2000).Draw(t, "n"))
			for i := range paths {
				paths[i] = "p"
			}
			return tool.Glob{}, tool.GlobReply{Paths: append(paths, rapid.SliceOfN(piece, 0, 30).Draw(t, "paths")...)}
		},
		func(t *rapid.T) (tool.Request, tool.Reply) {
			return tool.ReadText{Path: text.Draw(t, "path")}, tool.Failure{Reason: "X", Message: text.Draw(t,
				"message")}
		},
	}
	rapid.Check(t, func(t *rapid.T) {
		req, rep := rapid.SampledFrom(cases).Draw(t, "case")(t)
		got := render(req, rep)
		switch {
		case len(got.Text) > tool.MaxText+maxNotice:
			t.Fatalf("%d bytes", len(got.Text))
		case strings.Count(got.Text, "\n") > tool.MaxLines+10:
			t.Fatalf("%d lines", strings.Count(got.Text, "\n"))
		case !utf8.ValidString(got.Text) || strings.Contains(got.Text, "\x00"):
			t.Fatalf("unsafe text %.200q", got.Text)
		case strings.Contains(string(got.Details), `\u0000`) || !utf8.Valid(got.Details):
			t.Fatalf("unsafe details %.200q", got.Details)
		case got.Text == "":
			t.Fatal("a model must be told something")
		}
	})
}
