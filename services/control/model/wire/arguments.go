package wire

import (
	"bytes"
	"encoding/json"
)

// arguments makes JSON of what a model wrote as the arguments of one call; one value for each call that is meant.
//
// Nothing, null and an empty list are an empty object: that is how servers write a call without arguments. A string that
// holds an object is that object: some servers encode twice. Several objects in a row are as many calls of the tool:
// servers that stream parallel calls into one slot write them so, and each is complete in itself. An object that only
// repeats the one before it is the same call: servers that send the whole again at the end write that, and running a
// command twice is the worse mistake. An empty object before another one is a placeholder of the server.
//
// Whatever else it is, is kept: as it is when it is JSON, else as a JSON string of the text, which no tool accepts, so
// that the model is told. cut says that the model was stopped: then nothing is not an empty object.
func arguments(text []byte, cut bool) []json.RawMessage {
	text = bytes.TrimSpace(text)
	switch string(text) {
	case "":
		if cut {
			return []json.RawMessage{json.RawMessage(`""`)}
		}
		return []json.RawMessage{json.RawMessage("{}")}
	case "null", "[]", "{}":
		return []json.RawMessage{json.RawMessage("{}")}
	}
	if json.Valid(text) {
		if inner := []byte(str(text)); isObject(bytes.TrimSpace(inner)) && json.Valid(inner) {
			text = bytes.TrimSpace(inner)
		}
		return []json.RawMessage{pairSurrogates(bytes.Clone(text))}
	}
	if several := objects(text); several != nil {
		return several
	}
	return []json.RawMessage{appendString(nil, string(text))}
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
		case 0xd800 <= r && r < 0xdc00 && i+7 < len(raw) && raw[i+6] == '\\' && raw[i+7] == 'u' && isLow(hex4(raw[i+8:])):
			i += 6
		case 0xd800 <= r && r < 0xe000:
			copy(raw[i:], `\ufffd`)
		}
		i += 5
	}
	return raw
}

func isLow(r rune) bool { return 0xdc00 <= r && r < 0xe000 }
