package builtin

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

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
		"bash leaves a process": {bash, tool.ExecReply{Stdout: out("up"), Confirmed: true, Leftovers: 1}, tool.Result{
			Text: "up\n\nA background process of the command was ended with it: what needs it has to run in the same " +
				"command.",
			Details: []byte(`{"command":"make","exitCode":0}`),
		}},
		"bash leaves processes": {bash, tool.ExecReply{ExitCode: 3, Confirmed: true, Leftovers: 2}, tool.Result{
			Text: noOutput + "\n\n2 background processes of the command were ended with it: what needs them has to " +
				"run in the same command.\nCommand exited with code 3",
			Details: []byte(`{"command":"make","exitCode":3}`),
		}},
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
		"glob that could not read all": {
			tool.Glob{Pattern: "a"}, tool.GlobReply{Note: "1 path could not be read: b"}, tool.Result{
				Text:    "No files found.\n\n[1 path could not be read: b]",
				Details: []byte(`{"pathCount":0,"truncated":false}`),
			},
		},
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
