package command

import (
	"bytes"
	"encoding/json"
	"image"
	"image/png"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// calling is a call of a tool, as a model makes it.
func calling(t *testing.T, d Definition, args string) tool.Asked {
	t.Helper()
	one, err := d.Tool()
	if err != nil {
		t.Fatal(err)
	}
	set, err := tool.NewSet(one)
	if err != nil {
		t.Fatal(err)
	}
	return set.Read(model.Message{Content: []model.Block{{
		Type: model.ToolCallBlock, Tool: d.Name, Args: json.RawMessage(args),
	}}})[0]
}

func taking(properties string) Definition {
	return Definition{
		Name: "x", Description: "d", Command: `echo "$ARG_TEXT"`, Safety: tool.AtMostOnce, Output: Text,
		Cwd: "sub", Timeout: 1500 * time.Millisecond,
		Arguments: json.RawMessage(`{"type":"object","properties":{` + properties + `}}`),
	}
}

// Arguments are data: they come on standard input and in variables, and are no part of the line.
func TestArgumentsOfACommand(t *testing.T) {
	d := taking(`"text":{"type":"string"},"n":{"type":"integer"},"big-id":{},"on":{"type":"boolean"},"list":{}`)
	asked := calling(t, d, `{"text":"$(rm -rf /)\n'; \"","n":1e3,"big-id":12345678901234567890,"on":true,`+
		`"list":[1, {"b":1,"a":2}],"else":{"x":1}}`)
	if asked.Refused != nil {
		t.Fatal(asked.Refused)
	}
	got := asked.Call.Request.(tool.Exec)
	if got.Command != d.Command || got.Cwd != "sub" || got.TimeoutSeconds != 1.5 || got.Image {
		t.Errorf("got %+v", got)
	}
	want := map[string]string{
		"ARG_TEXT": "$(rm -rf /)\n'; \"", "ARG_N": "1000", "ARG_BIG_ID": "12345678901234567890", "ARG_ON": "true",
		"ARG_LIST": `[1,{"b":1,"a":2}]`,
	}
	if !maps.Equal(got.Env, want) {
		t.Errorf("variables %v, want %v", got.Env, want)
	}
	const input = `{"big-id":12345678901234567890,"else":{"x":1},"list":[1,{"b":1,"a":2}],"n":1000,"on":true,` +
		`"text":"$(rm -rf /)\n'; \""}`
	if string(got.Input) != input {
		t.Errorf("input\n%s\nwant\n%s", got.Input, input)
	}
	other := calling(t, d, `{"text":"b"}`)
	one, err := asked.Call.Hash("/", nil)
	two, err2 := other.Call.Hash("/", nil)
	if err != nil || err2 != nil || bytes.Equal(one, two) {
		t.Error("calls with different arguments have one hash")
	}
	if nul := calling(t, d, `{"text":"a\u0000b"}`); nul.Refused == nil ||
		!strings.Contains(nul.Refused.Error(), "text: must not contain a NUL character") {
		t.Errorf("a NUL in a variable: %v", nul.Refused)
	}
}

// What is too large for a variable is on standard input, and the model is told. What is too large for that is refused.
func TestLargeArguments(t *testing.T) {
	d := taking(`"a":{"type":"string"},"b":{"type":"string"}`)
	quoted := func(n int) string { return `"` + strings.Repeat("x", n) + `"` }
	asked := calling(t, d, `{"a":`+quoted(maxVariable)+`,"b":`+quoted(maxVariable+1)+`}`)
	if asked.Refused != nil {
		t.Fatal(asked.Refused)
	}
	got := asked.Call.Request.(tool.Exec)
	if _, there := got.Env["ARG_B"]; there || len(got.Env["ARG_A"]) != maxVariable {
		t.Errorf("%d variables, the first has %d bytes", len(got.Env), len(got.Env["ARG_A"]))
	}
	if len(got.Input) < 2*maxVariable {
		t.Errorf("the input has %d bytes", len(got.Input))
	}
	res := asked.Result(tool.ExecReply{Confirmed: true})
	if !strings.Contains(res.Text, "on standard input only, because they are too large for a variable: b.") {
		t.Errorf("told %q", res.Text)
	}
	many := taking(`"a1":{},"a2":{},"a3":{},"a4":{},"a5":{},"a6":{},"a7":{},"a8":{},"a9":{}`)
	args := map[string]string{}
	for _, name := range many.names() {
		args[name] = strings.Repeat("x", maxVariable)
	}
	body, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	if env := calling(t, many, string(body)).Call.Request.(tool.Exec).Env; len(env) != 8 {
		t.Errorf("%d variables of %d bytes each", len(env), maxVariable)
	}
	refused := calling(t, d, `{"a":`+quoted(tool.MaxInput)+`}`)
	if refused.Refused == nil || !strings.Contains(refused.Refused.Error(), "at most 1048576 are possible") {
		t.Errorf("refused: %v", refused.Refused)
	}
}

func TestOutputOfACommand(t *testing.T) {
	picture := &bytes.Buffer{}
	if err := png.Encode(picture, image.NewGray(image.Rect(0, 0, 3, 2))); err != nil {
		t.Fatal(err)
	}
	said := func(text string) tool.Captured {
		return tool.Captured{Head: []byte(text), Size: int64(len(text))}
	}
	for name, c := range map[string]struct {
		output Output
		reply  tool.Reply
		want   string
		fails  bool
		images int
	}{
		"text": {Text, tool.ExecReply{Stdout: said("hi\n"), Stderr: said("oh\n")}, "hi\noh", false, 0},
		"that fails": {
			Text, tool.ExecReply{ExitCode: 3, Stderr: said("oh\n")}, "oh\n\nCommand exited with code 3", true, 0,
		},
		"out of time": {
			JSON,
			tool.ExecReply{TimedOut: true, ExitCode: 124, Confirmed: true},
			"Command timed out after 1.5 seconds",
			true, 0,
		},
		"json": {
			JSON,
			tool.ExecReply{Stdout: said(" {\"b\": 1,\n\"a\": [ 12345678901234567890 ]}\n"), Stderr: said("log")},
			`{"b":1,"a":[12345678901234567890]}`, false, 0,
		},
		"no json": {
			JSON,
			tool.ExecReply{Stdout: said("oops")},
			"is not the JSON that it should be (invalid character 'o' looking for beginning of value):\noops",
			true, 0,
		},
		"two values": {JSON, tool.ExecReply{Stdout: said("{}{}")}, "not the JSON that it should be", true, 0},
		"empty":      {JSON, tool.ExecReply{}, "not the JSON that it should be (unexpected end", true, 0},
		"large json": {
			JSON,
			tool.ExecReply{Stdout: said(`"` + strings.Repeat("x", tool.MaxText) + `"`)},
			"Its output has 51202 bytes, and JSON of at most 51200 is shown", true, 0,
		},
		"json in part": {
			JSON,
			tool.ExecReply{Stdout: tool.Captured{Head: []byte("["), Tail: []byte("]"), Cut: 1 << 20, Size: 1<<20 + 2}},
			"Its output has 1048578 bytes", true, 0,
		},
		"json that fails": {
			JSON, tool.ExecReply{ExitCode: 1, Stdout: said("{}")}, "{}\n\nCommand exited with code 1", true, 0,
		},
		"image": {
			Image,
			tool.ExecReply{Image: picture.Bytes(), Stdout: tool.Captured{Size: int64(picture.Len())}},
			"An image (image/png, ", false, 1,
		},
		"no image": {Image, tool.ExecReply{}, "wrote no image", true, 0},
		"other bytes": {
			Image,
			tool.ExecReply{Image: []byte("hello"), Stdout: tool.Captured{Size: 5}},
			"its output of 5 bytes is no image", true, 0,
		},
		"large image": {
			Image,
			tool.ExecReply{Stdout: tool.Captured{Head: []byte("x"), Size: maxImage + 1}},
			"has 5242881 bytes, and an image of at most 5242880 is shown", true, 0,
		},
		"image that fails": {
			Image,
			tool.ExecReply{ExitCode: 1, Image: picture.Bytes(), Stderr: said("oh")},
			"oh\n\nCommand exited with code 1", true, 0,
		},
		"unknown": {
			Text, tool.Failure{Reason: tool.ReasonInterrupted}, "The outcome of this call is unknown", true, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := taking("")
			d.Output = c.output
			// What is stored is what is shown.
			body, err := tool.Encode(tool.Clean(c.reply, nil))
			if err != nil {
				t.Fatal(err)
			}
			stored, err := tool.Set{}.Decode("x", body)
			if err != nil {
				t.Fatal(err)
			}
			res := calling(t, d, `{}`).Result(stored)
			if !strings.Contains(res.Text, c.want) || res.IsError != c.fails || len(res.Images) != c.images {
				t.Errorf("error %t, %d images: %s", res.IsError, len(res.Images), res.Text)
			}
		})
	}
}
