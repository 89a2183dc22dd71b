package builtin

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/tool"
)

// What models write out of habit with other tools is taken as what it means, and costs no turn.
func TestArgumentsAsTheyAreMeant(t *testing.T) {
	edit := tool.EditFile{Path: "a", Old: "b", New: "c"}
	for name, c := range map[string]struct {
		tool, args string
		want       tool.Request
	}{
		"snake case": {
			NameEdit, `{"file_path":"a","old_string":"b","new_string":"c","replace_all":"True"}`,
			tool.EditFile{Path: "a", Old: "b", New: "c", ReplaceAll: true},
		},
		"camel case":           {NameEdit, `{"filePath":"a","oldString":"b","newString":"c"}`, edit},
		"short names":          {NameEdit, `{"path":"a","old_str":"b","new_str":"c"}`, edit},
		"other case":           {NameEdit, `{"Path":"a","OLD_TEXT":"b","NewText":"c"}`, edit},
		"a list of one edit":   {NameEdit, `{"path":"a","edits":[{"oldText":"b","newText":"c"}]}`, edit},
		"boolean as number":    {NameEdit, `{"path":"a","oldText":"b","newText":"c","replaceAll":0}`, edit},
		"object in a string":   {NameBash, `"{\"command\":\"ls\"}"`, tool.Exec{Command: "ls"}},
		"command alone":        {NameBash, `"ls -l"`, tool.Exec{Command: "ls -l"}},
		"object in an object":  {NameBash, `{"input":{"command":"ls"}}`, tool.Exec{Command: "ls"}},
		"named like the tool":  {NameBash, `{"bash":{"cmd":"ls"}}`, tool.Exec{Command: "ls"}},
		"string in an object":  {NameBash, `{"arguments":"{\"command\":\"ls\"}"}`, tool.Exec{Command: "ls"}},
		"input is the command": {NameBash, `{"input":"ls"}`, tool.Exec{Command: "ls"}},
		"shell in a list":      {NameBash, `{"command":["bash","-lc","ls | wc"]}`, tool.Exec{Command: "ls | wc"}},
		"list of one":          {NameBash, `{"command":["ls"]}`, tool.Exec{Command: "ls"}},
		"fence": {
			NameBash, "{\"command\":\"```bash\\nls\\nwc x\\n```\\n\"}", tool.Exec{Command: "ls\nwc x\n"},
		},
		"directory": {NameBash, `{"command":"ls","workdir":"d"}`, tool.Exec{Command: "ls", Cwd: "d"}},
		"milliseconds": {
			NameBash, `{"command":"ls","timeout_ms":1500}`, tool.Exec{Command: "ls", TimeoutSeconds: 1.5},
		},
		"hours in milliseconds": {
			NameBash, `{"command":"ls","timeout_ms":36000000}`, tool.Exec{Command: "ls", TimeoutSeconds: 36000},
		},
		"hours in seconds that are said": {
			NameBash, `{"command":"ls","timeout_seconds":36000}`, tool.Exec{Command: "ls", TimeoutSeconds: 36000},
		},
		"a number as text": {
			NameWrite, `{"path":"version","body":1.10}`, tool.WriteFile{Path: "version", Content: []byte("1.10")},
		},
		"a long number as text": {
			NameEdit, `{"path":"a","old":12345678901234567891,"new":1e2}`,
			tool.EditFile{Path: "a", Old: "12345678901234567891", New: "1e2"},
		},
		"no timeout": {NameBash, `{"command":"ls","timeout":-1}`, tool.Exec{Command: "ls"}},
		"odd seconds stay": {
			NameBash, `{"command":"ls","timeout":10800.5}`, tool.Exec{Command: "ls", TimeoutSeconds: 10800.5},
		},
		"an hour stays": {
			NameBash, `{"command":"ls","timeout":3600}`, tool.Exec{Command: "ls", TimeoutSeconds: 3600},
		},
		"offset 0":     {NameRead, `{"path":"a","offset":0,"limit":0}`, tool.ReadText{Path: "a"}},
		"from the end": {NameRead, `{"path":"a","offset":-20}`, tool.ReadText{Path: "a", Offset: -20}},
		"limit -1":     {NameRead, `{"path":"a","limit":-1}`, tool.ReadText{Path: "a"}},
		"from line to line": {
			NameRead, `{"file_path":"a","start_line":"5","end_line":9}`, tool.ReadText{Path: "a", Offset: 5, Limit: 5},
		},
		"to line": {NameRead, `{"path":"a","end_line":9}`, tool.ReadText{Path: "a", Limit: 9}},
		"range": {
			NameRead, `{"path":"a","view_range":[5,9]}`, tool.ReadText{Path: "a", Offset: 5, Limit: 5},
		},
		"range to the end": {NameRead, `{"path":"a","view_range":[5,-1]}`, tool.ReadText{Path: "a", Offset: 5}},
		"path alone":       {NameRead, `"a.txt"`, tool.ReadText{Path: "a.txt"}},
		"path in a list":   {NameRead, `{"path":["a"]}`, tool.ReadText{Path: "a"}},
		"empty path":       {NameGrep, `{"pattern":"a","path":"","include":""}`, tool.Grep{Pattern: "a"}},
		"case":             {NameGrep, `{"query":"a","-i":true}`, tool.Grep{Pattern: "a", IgnoreCase: true}},
		"case sensitive": {
			NameGrep, `{"pattern":"a","case_sensitive":false}`, tool.Grep{Pattern: "a", IgnoreCase: true},
		},
		"not a regex": {NameGrep, `{"pattern":"a","is_regex":"false"}`, tool.Grep{Pattern: "a", Literal: true}},
		"several globs": {
			NameGrep, `{"pattern":"a","include":["*.go","*.rs"]}`, tool.Grep{Pattern: "a", Include: "{*.go,*.rs}"},
		},
		"glob": {
			NameGlob, `{"glob_pattern":"*.go","directory":"d"}`, tool.Glob{Pattern: "*.go", Path: "d"},
		},
		"contents": {
			NameWrite, `{"filename":"a","file_text":"b"}`, tool.WriteFile{Path: "a", Content: []byte("b")},
		},
		"the own name wins": {
			NameWrite, `{"path":"a","content":"b"}`, tool.WriteFile{Path: "a", Content: []byte("b")},
		},
		"unknown and nothing":      {NameRead, `{"path":"a","x":null}`, tool.ReadText{Path: "a"}},
		"one tells about the rest": {NameRead, `{"path":"a","limit":"10.0"}`, tool.ReadText{Path: "a", Limit: 10}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parse(c.tool, c.args)
			if err != nil || !reflect.DeepEqual(got.Request, c.want) {
				t.Fatalf("got %#v, %v, want %#v", got.Request, err, c.want)
			}
			if note, ignored := notes(t, got); note != "" || ignored != "" {
				t.Errorf("a note without a cause: %s %s", note, ignored)
			}
		})
	}
}

func TestWhatWasIgnoredIsSaid(t *testing.T) {
	for name, c := range map[string]struct {
		tool, args, text, ignored string
	}{
		"a comment": {
			NameBash, `{"command":"ls","description":"list"}`, "", `["description"]`,
		},
		"unknown": {
			NameBash, `{"command":"ls","run_in_background":true}`,
			"\n\n[Ignored: run_in_background. The arguments of bash are command, cwd, timeout.]",
			`["run_in_background"]`,
		},
		"twice": {
			NameRead, `{"path":"a","file_path":"b"}`,
			"\n\n[Ignored: file_path. The arguments of read are limit, offset, path.]",
			`["file_path"]`,
		},
		"the same twice": {
			NameBash, `{"cmd":"ls","script":"ls"}`,
			"\n\n[Ignored: script. The arguments of bash are command, cwd, timeout.]",
			`["script"]`,
		},
		"edits beside an edit": {
			NameEdit, `{"path":"a","oldText":"b","newText":"c","edits":[{"oldText":"d","newText":"e"}]}`,
			"\n\n[Ignored: edits. The arguments of edit are newText, oldText, path, replaceAll.]",
			`["edits"]`,
		},
		"not a range": {
			NameRead, `{"path":"a","range":"1-2"}`,
			"\n\n[Ignored: range. The arguments of read are limit, offset, path.]",
			`["range"]`,
		},
		"milliseconds": {
			NameBash, `{"command":"ls","timeout":120000}`,
			"\n\n[timeout is in seconds; 120000 was taken as milliseconds.]", ``,
		},
		"above the limit": {
			NameBash, `{"command":"ls","timeout":90500}`,
			"\n\n[timeout is in seconds; 90500 was taken as milliseconds.]", ``,
		},
		"a name of its own": {
			NameBash, `{"command":"ls","a\u001b":1}`,
			"\n\n[Ignored: \"a\\x1b\". The arguments of bash are command, cwd, timeout.]",
			`["\"a\\x1b\""]`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			call, err := parse(c.tool, c.args)
			if err != nil {
				t.Fatal(err)
			}
			if text, ignored := notes(t, call); text != c.text || ignored != c.ignored {
				t.Errorf("got %q %s", text, ignored)
			}
		})
	}
	call, err := parse(NameBash,
		`{"command":"ls","`+strings.Repeat("x", 500)+`":1,"a":1,"b":1,"c":1,"d":1,"e":1,"f":1}`)
	if err != nil {
		t.Fatal(err)
	}
	if note, _ := notes(t, call); len(note) > 300 || strings.Count(note, ",") != 6 {
		t.Errorf("%d bytes: %s", len(note), note)
	}
}

// Who gives a document instead of its text gets it as it was written.
func TestJSONContentIsWrittenAsText(t *testing.T) {
	call, err := parse(NameWrite, `{"path":"a.json","content":{"z":1,"a":[1.50]}}`)
	want := "{\n  \"z\": 1,\n  \"a\": [\n    1.50\n  ]\n}\n"
	if w, ok := call.Request.(tool.WriteFile); err != nil || !ok || string(w.Content) != want {
		t.Errorf("got %q, %v", w.Content, err)
	}
	if note, _ := notes(t, call); !strings.Contains(note, "content was given as JSON") {
		t.Errorf("got %q", note)
	}
}

func TestLongestCommand(t *testing.T) {
	args := func(n int) string {
		raw, _ := json.Marshal(map[string]string{"command": strings.Repeat("x", n)})
		return string(raw)
	}
	if _, err := parse(NameBash, args(tool.MaxCommand)); err != nil {
		t.Error(err)
	}
	_, err := parse(NameBash, args(tool.MaxCommand+1))
	if err == nil || !strings.Contains(err.Error(), "write the script to a file first") {
		t.Errorf("got %v", err)
	}
}
