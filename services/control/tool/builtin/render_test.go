package builtin

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

// render shows the reply to a request of one of the tools.
func render(req tool.Request, reply tool.Reply) tool.Result {
	t, err := Tools().Find(map[string]string{
		"tool.ReadText": NameRead, "tool.WriteFile": NameWrite, "tool.EditFile": NameEdit, "tool.Exec": NameBash,
		"tool.Grep": NameGrep, "tool.Glob": NameGlob,
	}[fmt.Sprintf("%T", req)])
	if err != nil {
		panic(err)
	}
	return tool.Asked{Call: tool.Call{Tool: t, Request: req}}.Result(reply)
}

// maxNotice is how much a tool.Result may be over tool.MaxText and MaxLines: paths, footers and markers.
const maxNotice = 2*clip.MaxPath + 1024

func numbered(from, to int) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}

func out(s string) tool.Captured { return tool.Captured{Head: []byte(s)} }

func match(path string, line int64, text string) tool.Match {
	return tool.Match{Path: path, Line: line, Text: text}
}

func TestRenderGolden(t *testing.T) {
	long := strings.Repeat("x", tool.MaxText)
	manyNames := strings.Split(strings.TrimSuffix(numbered(1, 2001), "\n"), "\n")
	png := []byte("\x89PNG\r\n\x1a\n")
	read := tool.ReadText{Path: "a.txt"}
	bash := tool.Exec{Command: "make", TimeoutSeconds: 1.5}
	for name, c := range map[string]struct {
		req  tool.Request
		rep  tool.Reply
		want tool.Result
	}{
		"read whole": {
			read,
			tool.TextReply{Content: []byte("a\nb\n"), FirstLine: 1, TotalLines: 2},
			tool.Result{Text: "a\nb\n", Details: []byte(`{"lines":2,"path":"a.txt"}`)},
		},
		"read no newline": {
			read,
			tool.TextReply{Content: []byte("a\nb"), FirstLine: 1, TotalLines: 2},
			tool.Result{Text: "a\nb", Details: []byte(`{"lines":2,"path":"a.txt"}`)},
		},
		"read by limit": {
			tool.ReadText{Path: "a.txt", Offset: 3, Limit: 2},
			tool.TextReply{
				Content: []byte("c\nd\n"), FirstLine: 3,
				TotalLines: 9,
			},
			tool.Result{
				Text:    "c\nd\n\n[Showing lines 3-4 of 9. Use offset=5 to continue.]",
				Details: []byte(`{"lines":9,"path":"a.txt"}`),
			},
		},
		"read limit kept": {tool.ReadText{Path: "a.txt", Limit: 1}, tool.TextReply{
			Content: []byte("a\nb\n"), FirstLine: 1,
			TotalLines: 2,
		}, tool.Result{
			Text:    "a\n\n[Showing lines 1-1 of 2. Use offset=2 to continue.]",
			Details: []byte(`{"lines":2,"path":"a.txt"}`),
		}},
		"read to the end": {
			tool.ReadText{Path: "a.txt", Offset: 8, Limit: 2},
			tool.TextReply{Content: []byte("h\ni\n"), FirstLine: 8, TotalLines: 9},
			tool.Result{
				Text:    "h\ni\n",
				Details: []byte(`{"lines":9,"path":"a.txt"}`),
			},
		},
		"read blank lines": {
			read,
			tool.TextReply{Content: []byte("\n\n"), FirstLine: 1, TotalLines: 3},
			tool.Result{
				Text:    "\n\n\n[Showing lines 1-2 of 3. Use offset=3 to continue.]",
				Details: []byte(`{"lines":3,"path":"a.txt"}`),
			},
		},
		"read 2,001 lines": {
			read,
			tool.TextReply{Content: []byte(numbered(1, 2001)), FirstLine: 1, TotalLines: 2001},
			tool.Result{
				Text:    numbered(1, 2000) + "\n[Showing lines 1-2000 of 2001. Use offset=2001 to continue.]",
				Details: []byte(`{"lines":2001,"path":"a.txt"}`),
			},
		},
		"read 2,000 lines": {
			read,
			tool.TextReply{Content: []byte(numbered(1, 2000)), FirstLine: 1, TotalLines: 2000},
			tool.Result{Text: numbered(1, 2000), Details: []byte(`{"lines":2000,"path":"a.txt"}`)},
		},
		"read 50 KB": {
			read,
			tool.TextReply{Content: []byte("a\n" + long + "\nb\n"), FirstLine: 1, TotalLines: 3},
			tool.Result{
				Text:    "a\n\n[Showing lines 1-1 of 3. Use offset=2 to continue.]",
				Details: []byte(`{"lines":3,"path":"a.txt"}`),
			},
		},
		"read exactly 50 KB": {
			read,
			tool.TextReply{Content: []byte(long + "\n"), FirstLine: 1, TotalLines: 1},
			tool.Result{Text: long + "\n", Details: []byte(`{"lines":1,"path":"a.txt"}`)},
		},
		"read, total wrong": {
			read,
			tool.TextReply{Content: []byte("a\nb\n")},
			tool.Result{Text: "a\nb\n", Details: []byte(`{"lines":2,"path":"a.txt"}`)},
		},
		"read long line": {
			tool.ReadText{Path: "a.txt", Offset: 7},
			tool.TextReply{Content: []byte(long), FirstLine: 7, TotalLines: 9, LineCut: true},
			tool.Result{
				Text: long + "\n\n[Line 7 of 9 is longer than 50 KB; only its beginning is shown. Use bash to see " +
					"more of it, or offset=8 to continue after it.]",
				Details: []byte(`{"lineCut":true,"lines":9,"path":"a.txt"}`),
			},
		},
		"read long last line": {
			read,
			tool.TextReply{Content: []byte(long + "yy\nz")},
			tool.Result{Text: long + "\n\n[Line 1 of 1 is longer than 50 KB; only its beginning is shown. Use bash " +
				"to see more of it.]", Details: []byte(`{"lineCut":true,"lines":1,"path":"a.txt"}`)},
		},
		"read long line of characters": {
			read,
			tool.TextReply{Content: []byte("x" + strings.Repeat("é", tool.MaxText/2)), FirstLine: 1, TotalLines: 1},
			tool.Result{
				Text: "x" + strings.Repeat("é",
					tool.MaxText/2-1) + "\n\n[Line 1 of 1 is longer than 50 KB; only its " +
					"beginning is shown. Use bash to see more of it.]",
				Details: []byte(`{"lineCut":true,"lines":1,"path":"a.txt"}`),
			},
		},
		"read beyond": {
			tool.ReadText{Path: "a.txt", Offset: 9999},
			tool.TextReply{TotalLines: 3000},
			tool.Result{
				Text: "Offset 9999 is beyond end of file (3000 lines total)", IsError: true,
				Details: []byte(`{"lines":3000,"path":"a.txt"}`),
			},
		},
		"read beyond nothing": {
			tool.ReadText{Path: "a.txt", Offset: 2},
			tool.TextReply{},
			tool.Result{
				Text: "Offset 2 is beyond end of file (0 lines total)", IsError: true,
				Details: []byte(`{"lines":0,"path":"a.txt"}`),
			},
		},
		"read nothing": {
			tool.ReadText{Path: "a.txt", Offset: 1},
			tool.TextReply{},
			tool.Result{Text: "(empty file)", Details: []byte(`{"lines":0,"path":"a.txt"}`)},
		},
		"read unsafe": {
			read,
			tool.TextReply{Content: []byte("a\x00\xffb"), FirstLine: 1, TotalLines: 1},
			tool.Result{Text: "a\uFFFD\uFFFDb", Details: []byte(`{"lines":1,"path":"a.txt"}`)},
		},
		"read binary": {
			read,
			tool.TextReply{Binary: true, Size: 77},
			tool.Result{
				Text:    "a.txt is a binary file of 77 bytes and is not shown as text. Use bash to inspect it.",
				Details: []byte(`{"binary":true,"bytes":77,"path":"a.txt"}`),
			},
		},
		"read image": {
			read,
			tool.TextReply{MediaType: "image/gif", Image: png},
			tool.Result{
				Text: "a.txt is an image (image/png, 8 bytes).", Images: []model.Image{
					{MediaType: "image/png", Data: png},
				},
				Details: []byte(`{"bytes":8,"mediaType":"image/png","path":"a.txt"}`),
			},
		},
		"read large image": {
			read,
			tool.TextReply{MediaType: "image/png", Binary: true, Size: 6 << 20},
			tool.Result{
				Text: "a.txt is an image of 6291456 bytes, which is too large to be shown. Use bash to make a " +
					"smaller copy.",
				IsError: true, Details: []byte(`{"bytes":6291456,"mediaType":"image/png","path":"a.txt"}`),
			},
		},
		"read other image": {
			read,
			tool.TextReply{MediaType: "image/png", Image: []byte("II*\x00")},
			tool.Result{
				Text:    "a.txt is a binary file of 4 bytes and is not shown as text. Use bash to inspect it.",
				Details: []byte(`{"binary":true,"bytes":4,"path":"a.txt"}`),
			},
		},
		"read empty image": {
			read,
			tool.TextReply{MediaType: "image/png", Binary: true},
			tool.Result{
				Text:    "a.txt is a binary file of 0 bytes and is not shown as text. Use bash to inspect it.",
				Details: []byte(`{"binary":true,"bytes":0,"path":"a.txt"}`),
			},
		},
		"read directory": {
			tool.ReadText{Path: "d"},
			tool.TextReply{IsDir: true, Entries: []string{".a", "b\nc", "d"}},
			tool.Result{
				Text:    ".a\n\"b\\nc\"\nd",
				Details: []byte(`{"entries":3,"isDirectory":true,"path":"d"}`),
			},
		},
		"read odd entry": {
			tool.ReadText{Path: "d"},
			tool.TextReply{IsDir: true, Entries: []string{""}},
			tool.Result{
				Text:    `""`,
				Details: []byte(`{"entries":1,"isDirectory":true,"path":"d"}`),
			},
		},
		"read no entries": {
			tool.ReadText{Path: "d"},
			tool.TextReply{IsDir: true},
			tool.Result{
				Text:    "(empty directory)",
				Details: []byte(`{"entries":0,"isDirectory":true,"path":"d"}`),
			},
		},
		"read many entries": {
			tool.ReadText{Path: "d"},
			tool.TextReply{IsDir: true, Entries: manyNames},
			tool.Result{
				Text:    numbered(1, 2000) + "\n[Showing 2000 of 2001 entries. Use glob or bash to see the others.]",
				Details: []byte(`{"entries":2001,"isDirectory":true,"path":"d"}`),
			},
		},

		"write": {
			tool.WriteFile{Path: "a<b>.txt", Content: []byte("héllo")},
			tool.WriteReply{},
			tool.Result{
				Text:    "Successfully wrote 6 bytes to a<b>.txt",
				Details: []byte(`{"bytes":6,"path":"a<b>.txt"}`),
			},
		},
		"edit": {
			tool.EditFile{Path: "a.txt"},
			tool.EditReply{Replacements: 1, Diff: "@@ -1 +1 @@\n-a\n+b\n"},
			tool.Result{
				Text:    "Successfully edited a.txt\n\n@@ -1 +1 @@\n-a\n+b",
				Details: []byte(`{"diff":"@@ -1 +1 @@\n-a\n+b","path":"a.txt","replacements":1}`),
			},
		},
		"edit, note": {
			tool.EditFile{Path: "a.txt"},
			tool.EditReply{Replacements: 1, Diff: "+b\n", Note: "n\x00" + strings.Repeat("x", 600)},
			tool.Result{
				Text:    "Successfully edited a.txt\n\n+b\n\n[n\uFFFD" + strings.Repeat("x", 496) + "...]",
				Details: []byte(`{"diff":"+b","path":"a.txt","replacements":1}`),
			},
		},
		"edit many": {
			tool.EditFile{Path: "a.txt"},
			tool.EditReply{Replacements: 3},
			tool.Result{
				Text:    "Replaced 3 occurrences in a.txt",
				Details: []byte(`{"diff":"","path":"a.txt","replacements":3}`),
			},
		},
		"bash": {
			bash,
			tool.ExecReply{Stdout: out("\n  out\n"), Stderr: out("err\n"), Confirmed: true},
			tool.Result{Text: "  out\nerr", Details: []byte(`{"command":"make","exitCode":0}`)},
		},
		"bash joins": {
			bash,
			tool.ExecReply{Stdout: out("out"), Stderr: out("err")},
			tool.Result{Text: "out\nerr", Details: []byte(`{"command":"make","exitCode":0}`)},
		},
		"bash stderr": {bash, tool.ExecReply{Stderr: out("err\n")}, tool.Result{
			Text:    "err",
			Details: []byte(`{"command":"make","exitCode":0}`),
		}},
		"bash silent": {
			bash,
			tool.ExecReply{Stdout: out(" \r\n\n"), Stderr: out("\n")},
			tool.Result{Text: "(no output)", Details: []byte(`{"command":"make","exitCode":0}`)},
		},
		"bash fails": {bash, tool.ExecReply{ExitCode: 7}, tool.Result{
			Text:    "(no output)\n\nCommand exited with code 7",
			Details: []byte(`{"command":"make","exitCode":7}`),
		}},
		"bash unsafe": {
			tool.Exec{Command: "a\x00&&"},
			tool.ExecReply{Stdout: out("a\x00\xff")},
			tool.Result{Text: "a\uFFFD\uFFFD", Details: []byte("{\"command\":\"a\uFFFD&&\",\"exitCode\":0}")},
		},
		"bash across": {
			bash,
			tool.ExecReply{Stdout: tool.Captured{Head: []byte("h\xc3"), Tail: []byte("\xa9!")}},
			tool.Result{Text: "hé!", Details: []byte(`{"command":"make","exitCode":0}`)},
		},
		"bash times out": {
			bash,
			tool.ExecReply{ExitCode: 124, TimedOut: true, Confirmed: true, Stdout: out("partial")},
			tool.Result{
				Text:    "partial\n\nCommand timed out after 1.5 seconds.\nCommand exited with code 124",
				Details: []byte(`{"command":"make","confirmed":true,"exitCode":124,"timedOut":true}`),
			},
		},
		"bash times out, code wrong": {
			tool.Exec{Command: "make", TimeoutSeconds: 1},
			tool.ExecReply{ExitCode: 1, TimedOut: true},
			tool.Result{
				Text: "(no output)\n\nCommand timed out after 1 second.\nIt could not be confirmed that all of " +
					"its processes have ended: check before you start it again.\nCommand exited with code 124",
				Details: []byte(`{"command":"make","confirmed":false,"exitCode":124,"timedOut":true}`),
			},
		},
		"bash times out by the call": {
			tool.Exec{Command: "make"},
			tool.ExecReply{ExitCode: 124, TimedOut: true, Confirmed: true},
			tool.Result{
				Text:    "(no output)\n\nCommand timed out.\nCommand exited with code 124",
				Details: []byte(`{"command":"make","confirmed":true,"exitCode":124,"timedOut":true}`),
			},
		},
		"bash cancelled": {
			bash,
			tool.ExecReply{ExitCode: 143, Cancelled: true, Confirmed: true, Stdout: out("partial")},
			tool.Result{
				Text: "partial\n\nCommand was cancelled before it finished.\nAll of its processes have " +
					"ended.\nCommand exited with code 143", IsError: true,
				Details: []byte(`{"cancelled":true,"command":"make","confirmed":true,"exitCode":143}`),
			},
		},
		"bash cancelled, alive perhaps": {
			bash,
			tool.ExecReply{Cancelled: true},
			tool.Result{
				Text: "(no output)\n\nCommand was cancelled before it finished.\nIt could not be confirmed that " +
					"all of its processes have ended: check before you start it again.", IsError: true,
				Details: []byte(`{"cancelled":true,"command":"make","confirmed":false,"exitCode":0}`),
			},
		},
		"bash, executor cut": {
			bash,
			tool.ExecReply{
				Stdout: tool.Captured{Head: []byte("head"), Tail: []byte("tail\n"), Cut: 12},
				Stderr: tool.Captured{Head: []byte("e1\n"), Tail: []byte("e2"), Cut: 34},
			},
			tool.Result{
				Text:    "head\n[... 12 bytes cut ...]\ntail\ne1\n[... 34 bytes cut ...]\ne2",
				Details: []byte(`{"command":"make","exitCode":0}`),
			},
		},
		"bash, executor cut all": {
			bash, tool.ExecReply{Stdout: tool.Captured{Cut: 5}}, tool.Result{
				Text:    "[... 5 bytes cut ...]",
				Details: []byte(`{"command":"make","exitCode":0}`),
			},
		},

		"grep": {
			tool.Grep{Pattern: "a"},
			tool.GrepReply{Matches: []tool.Match{match("d/a.go", 3, "  a\r\n"), match("x\ny", 4, "a\nb\rc")}, Total: 2},
			tool.Result{Text: "d/a.go:3:   a\n\"x\\ny\":4: a b c", Details: []byte(`{"matchCount":2}`)},
		},
		"grep, note": {
			tool.Grep{Pattern: "a"},
			tool.GrepReply{Note: "Taken as text."},
			tool.Result{Text: "No matches found.\n\n[Taken as text.]", Details: []byte(`{"matchCount":0}`)},
		},
		"grep nothing": {tool.Grep{Pattern: "a"}, tool.GrepReply{}, tool.Result{
			Text:    "No matches found.",
			Details: []byte(`{"matchCount":0}`),
		}},
		"grep more": {
			tool.Grep{Pattern: "a"},
			tool.GrepReply{Matches: []tool.Match{match("a", 1, "x")}, Total: 300},
			tool.Result{
				Text:    "a:1: x\n\n[Showing 1 of 300 matches. Narrow your search.]",
				Details: []byte(`{"matchCount":300}`),
			},
		},
		"grep only sum": {
			tool.Grep{Pattern: "a"},
			tool.GrepReply{Total: -1, Matches: []tool.Match{match("a", 1, "x")}},
			tool.Result{Text: "a:1: x", Details: []byte(`{"matchCount":1}`)},
		},
		"grep long": {tool.Grep{Pattern: "a"}, tool.GrepReply{Matches: []tool.Match{
			match("a", 1, strings.Repeat("é", 501)),
			match("a", 2, strings.Repeat("é", 500)),
			match("a", 3, strings.Repeat("é", 500)+"..."),
		}}, tool.Result{Text: "a:1: " +
			strings.Repeat("é", 500) + "...\na:2: " + strings.Repeat("é", 500) + "\na:3: " + strings.Repeat("é", 500) +
			"...", Details: []byte(`{"matchCount":3}`)}},

		"glob": {
			tool.Glob{Pattern: "a"},
			tool.GlobReply{Paths: []string{"a", "b\tc"}},
			tool.Result{Text: "a\n\"b\\tc\"", Details: []byte(`{"pathCount":2,"truncated":false}`)},
		},
		"glob nothing": {tool.Glob{Pattern: "a"}, tool.GlobReply{}, tool.Result{
			Text:    "No files found.",
			Details: []byte(`{"pathCount":0,"truncated":false}`),
		}},
		"glob more": {
			tool.Glob{Pattern: "a"},
			tool.GlobReply{Paths: []string{"a"}, Truncated: true},
			tool.Result{
				Text:    "a\n\n[Showing the first 1 paths; there are more. Narrow the pattern.]",
				Details: []byte(`{"pathCount":1,"truncated":true}`),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := render(c.req, c.rep)
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got\n%.3000q error=%v %s\nwant\n%.3000q error=%v %s", got.Text, got.IsError, got.Details,
					c.want.Text, c.want.IsError, c.want.Details)
			}
		})
	}
}

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

func TestRenderFailures(t *testing.T) {
	for name, c := range map[string]struct {
		req     tool.Request
		rep     tool.Reply
		text    string
		details string
	}{
		"bash unknown": {
			tool.Exec{Command: "rm x"},
			tool.Failure{Reason: tool.ReasonInterrupted, Message: "whatever"},
			"The outcome of this command is unknown: it was interrupted or its result was lost. It may or may not " +
				"have run, and if it ran it may or may not have finished. Check what it has done before you repeat " +
				"it.\nWhy: whatever", `{"command":"rm x","reason":"INTERRUPTED"}`,
		},
		"edit unknown": {
			tool.EditFile{Path: "a"},
			tool.Failure{Reason: tool.ReasonInterrupted},
			"The outcome of this edit is unknown: its result was lost, and the file may or may not have been " +
				"changed. Read the file before you repeat the edit.", `{"path":"a","reason":"INTERRUPTED"}`,
		},
		"write unknown": {
			tool.WriteFile{Path: "a"},
			tool.Failure{Reason: tool.ReasonInterrupted},
			"The outcome of this call is unknown: its result was lost, and the file may or may not have been " +
				"written. Writing it again is safe.", `{"path":"a","reason":"INTERRUPTED"}`,
		},
		"read unknown": {
			tool.ReadText{Path: "a"},
			tool.Failure{Reason: tool.ReasonInterrupted},
			"The result of this call was lost. The call changes nothing: make it again if you still need the result.",
			`{"path":"a","reason":"INTERRUPTED"}`,
		},
		"other reply": {
			tool.Exec{Command: "a"},
			tool.WriteReply{},
			bash.Lost,
			`{"command":"a","reason":"INTERRUPTED"}`,
		},
		"other reply write": {
			tool.WriteFile{Path: "a"},
			tool.EditReply{},
			write.Lost,
			`{"path":"a","reason":"INTERRUPTED"}`,
		},
		"cancelled": {
			tool.Grep{Path: "a"},
			tool.Failure{Reason: tool.ReasonCancelled, Message: "x"},
			"The call was cancelled.", `{"path":"a","reason":"CANCELLED"}`,
		},
		"message": {
			tool.ReadText{Path: "a"},
			tool.Failure{Reason: "NOT_FOUND", Message: "no such file or directory"},
			"a: no such file or directory", `{"path":"a","reason":"NOT_FOUND"}`,
		},
		"message with path": {tool.ReadText{Path: "b/c"}, tool.Failure{
			Reason:  "NOT_FOUND",
			Message: "open /w/b/c: no such file\n",
		}, "open /w/b/c: no such file", `{"path":"b/c","reason":"NOT_FOUND"}`},
		"no message": {
			tool.Glob{Path: "a"},
			tool.Failure{Reason: "SANDBOX_GONE"},
			"a: sandbox gone",
			`{"path":"a","reason":"SANDBOX_GONE"}`,
		},
		"path within word": {
			tool.ReadText{Path: "a"},
			tool.Failure{Reason: "X", Message: "éa bad a1 aa"},
			"a: éa bad a1 aa",
			`{"path":"a","reason":"X"}`,
		},
		"path, later": {
			tool.ReadText{Path: "a"},
			tool.Failure{Reason: "X", Message: "bad a"},
			"bad a",
			`{"path":"a","reason":"X"}`,
		},
		"nothing": {tool.Exec{}, tool.Failure{}, "the tool failed", `{"reason":""}`},
		"unsafe": {
			tool.Exec{Command: "\x00"},
			tool.Failure{Reason: "X\xff", Message: "a\x00b"},
			"a\uFFFDb",
			"{\"command\":\"\uFFFD\",\"reason\":\"X\uFFFD\"}",
		},
		"many lines": {
			tool.Exec{},
			tool.Failure{Reason: "X", Message: numbered(1, 51)},
			numbered(1, 50) + "...",
			`{"reason":"X"}`,
		},
		"lines enough": {
			tool.Exec{},
			tool.Failure{Reason: "X", Message: numbered(1, 50)},
			strings.TrimSuffix(numbered(1, 50), "\n"), `{"reason":"X"}`,
		},
		"long": {
			tool.Exec{},
			tool.Failure{Reason: "X", Message: strings.Repeat("m", 5000)},
			strings.Repeat("m", 4096) + "...", `{"reason":"X"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := render(c.req, c.rep)
			if got.Text != c.text || string(got.Details) != c.details || !got.IsError {
				t.Errorf("got %q %s, error %v", got.Text, got.Details, got.IsError)
			}
		})
	}
}

func TestEveryRequestChecksItsReply(t *testing.T) {
	replies := []tool.Reply{
		tool.TextReply{},
		tool.WriteReply{},
		tool.EditReply{},
		tool.ExecReply{},
		tool.GrepReply{},
		tool.GlobReply{},
	}
	for i, req := range []tool.Request{
		tool.ReadText{},
		tool.WriteFile{},
		tool.EditFile{},
		tool.Exec{},
		tool.Grep{},
		tool.Glob{},
	} {
		for j, rep := range replies {
			if got := render(req, rep); got.IsError == (i == j) {
				t.Errorf("%T with %T: %s", req, rep, got.Text)
			}
		}
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

// Output that is missing is never told as none, and a command that succeeded is not made to look as if it had not.
func TestRenderMissingOutput(t *testing.T) {
	for name, c := range map[string]struct {
		reply tool.ExecReply
		want  tool.Result
	}{
		"a part": {
			tool.ExecReply{
				Stdout: tool.Captured{Cut: 9, Size: 9, Error: "stale handle"},
				Stderr: tool.Captured{Head: []byte("warning")},
			},
			tool.Result{
				Text: "[... 9 bytes cut ...]\nwarning\n\nThe output is not complete: stale handle.\n" +
					"Command ended with exit code 0: it need not run again only because its output is missing.",
				IsError: true, Details: []byte(`{"command":"make","exitCode":0,"outputError":"stale handle"}`),
			},
		},
		"all": {
			tool.ExecReply{ExitCode: 2, Stdout: tool.Captured{Error: "broken pipe"}},
			tool.Result{
				Text: "(the output is missing)\n\nThe output is not complete: broken pipe.\nCommand exited " +
					"with code 2",
				IsError: true, Details: []byte(`{"command":"make","exitCode":2,"outputError":"broken pipe"}`),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, render(tool.Exec{Command: "make"}, c.reply)); diff != "" {
				t.Error(diff)
			}
		})
	}
	secret := tool.Clean(tool.ExecReply{Stdout: tool.Captured{Error: "no such file: /data/hunter2secret"}},
		[]string{"hunter2secret"})
	if got := secret.(tool.ExecReply).Stdout.Error; got != "no such file: /data/[redacted]" {
		t.Errorf("got %q", got)
	}
}
