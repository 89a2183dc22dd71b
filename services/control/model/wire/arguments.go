package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// argument is what a call is made with: a JSON value, and what is wrong with what the model wrote, if no call can be
// made of it.
type argument struct {
	args json.RawMessage
	bad  string
}

var emptyObject = json.RawMessage("{}")

// arguments reads what a model wrote as the arguments of one call; one value for each call that is meant.
//
// Nothing, null and an empty list are an empty object: that is how servers write a call without arguments. A string
// that holds an object is that object: some servers encode twice. Several objects in a row are as many calls of the
// tool: servers that stream parallel calls into one slot write them so, and each is complete in itself. An object that
// only repeats the one before it is the same call: servers that send the whole again at the end write that, and running
// a command twice is the worse mistake. An empty object before another one is a placeholder of the server.
//
// What is no JSON is an empty object with a message to the model. cut says that the model was stopped: then nothing was
// not meant as nothing.
func arguments(text []byte, cut bool) []argument {
	text = bytes.TrimSpace(text)
	switch string(text) {
	case "":
		if cut {
			return []argument{{emptyObject, explain(text, cut)}}
		}
		return []argument{{args: emptyObject}}
	case "null", "[]", "{}":
		return []argument{{args: emptyObject}}
	}
	if json.Valid(text) {
		if inner := bytes.TrimSpace([]byte(str(text))); isObject(inner) && json.Valid(inner) {
			text = inner
		}
		return []argument{{args: pairSurrogates(bytes.Clone(text))}}
	}
	several := objects(text)
	if several == nil {
		return []argument{{emptyObject, explain(text, cut)}}
	}
	all := make([]argument, len(several))
	for i, object := range several {
		all[i].args = object
	}
	return all
}

// maxEcho bounds how much of its own text a model is shown again, in bytes.
const maxEcho = 2000

// explain tells the model why its text is no JSON, and shows the text.
func explain(text []byte, cut bool) string {
	var v any
	var syntax *json.SyntaxError
	err := json.Unmarshal(text, &v)
	what := fmt.Sprintf("Your JSON was cut at byte %d", len(text))
	if errors.As(err, &syntax) && syntax.Error() != "unexpected end of JSON input" {
		what = fmt.Sprintf("Your arguments are no JSON: at byte %d, %v", syntax.Offset, err)
	}
	if cut {
		what += ", because your answer reached its limit of length; do less in one call, or make several"
	}
	shown := string(text)
	if len(shown) > maxEcho {
		shown = strings.ToValidUTF8(shown[:maxEcho/2], "") + " … " +
			strings.ToValidUTF8(shown[len(shown)-maxEcho/2:], "")
	}
	return what + ". The tool was not called. What came of the arguments:\n" + shown +
		"\n\nCall the tool again with a whole JSON object."
}

// objects are the objects that the text consists of; nil when it is anything else.
func objects(text []byte) []json.RawMessage {
	var all []json.RawMessage
	for i := skipSpace(text, 0); i < len(text); {
		if text[i] != '{' {
			return nil
		}
		end := skipValue(text, i)
		object := text[i:end]
		if !json.Valid(object) {
			return nil
		}
		switch n := len(all); {
		case n > 0 && bytes.Equal(all[n-1], object):
		case n > 0 && string(all[n-1]) == "{}":
			all[n-1] = pairSurrogates(bytes.Clone(object))
		default:
			all = append(all, pairSurrogates(bytes.Clone(object)))
		}
		i = skipSpace(text, end)
	}
	return all
}

// pairSurrogates replaces escapes of half a character, which strict readers refuse, in place. raw is valid JSON.
func pairSurrogates(raw []byte) []byte {
	for i := 0; i+1 < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		if raw[i+1] != 'u' {
			i++
			continue
		}
		r := hex4(raw[i+2:])
		switch {
		case 0xd800 <= r && r < 0xdc00 && i+7 < len(raw) && raw[i+6] == '\\' && raw[i+7] == 'u' &&
			isLow(hex4(raw[i+8:])):
			i += 6
		case 0xd800 <= r && r < 0xe000:
			copy(raw[i:], `\ufffd`)
		}
		i += 5
	}
	return raw
}

func isLow(r rune) bool { return 0xdc00 <= r && r < 0xe000 }

// object is raw if it is a JSON object, else an empty one.
func object(raw []byte) []byte {
	if raw = bytes.TrimSpace(raw); !isObject(raw) || !json.Valid(raw) {
		return []byte("{}")
	}
	if !utf8.Valid(raw) {
		raw = bytes.ToValidUTF8(raw, []byte("\ufffd"))
	}
	if bytes.Contains(raw, []byte(`\u`)) {
		raw = pairSurrogates(slices.Clone(raw))
	}
	return raw
}
