package expr

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// encodings are JSON and base64.
func encodings() []cel.EnvOption {
	return []cel.EnvOption{
		function("parse_json", []*cel.Type{text}, cel.DynType, func(a ...ref.Val) ref.Val {
			v, err := decode(str(a[0]))
			if err != nil {
				return types.NewErr("parse_json: %v", err)
			}
			return (*World)(nil).value(types.DynType, v)
		}),
		function("to_json", []*cel.Type{cel.DynType}, text, func(a ...ref.Val) ref.Val {
			out, err := encode(a[0])
			if err != nil {
				return types.NewErr("to_json: %v", err)
			}
			return types.String(out)
		}),
		function("base64.encode", []*cel.Type{cel.BytesType}, text, func(a ...ref.Val) ref.Val {
			b, _ := a[0].(types.Bytes)
			if n := base64.StdEncoding.EncodedLen(len(b)); n > MaxValue {
				return tooLong(n)
			}
			return types.String(base64.StdEncoding.EncodeToString(b))
		}),
		function("base64.decode", []*cel.Type{text}, cel.BytesType, func(a ...ref.Val) ref.Val {
			b, err := base64.StdEncoding.DecodeString(str(a[0]))
			if err != nil {
				b, err = base64.RawStdEncoding.DecodeString(str(a[0]))
			}
			if err != nil {
				return types.NewErr("base64.decode: the text is no base64")
			}
			return types.Bytes(b)
		}),
	}
}

var errTooLarge = errors.New("the value is larger than 16 MiB")

// maxItems bounds the values in a text of JSON, which need more memory than the text has bytes.
const maxItems = 200_000

// decode reads JSON. Whole numbers become int64.
func decode(s string) (any, error) {
	if err := count(s); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(s)))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, errors.New(oneLine(err.Error()))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more behind the value")
	}
	return Numbers(v), nil
}

// count refuses a text that has more values than are allowed, before any is made: each has a comma, a colon or a
// bracket.
func count(s string) error {
	n := 0
	for i := range len(s) {
		if s[i] == ',' || s[i] == ':' || s[i] == '[' || s[i] == '{' {
			n++
		}
	}
	if n > maxItems {
		return fmt.Errorf("the text has more than %d values", maxItems)
	}
	return nil
}

// Numbers makes of each json.Number in a value, which is changed, an int64 or a float64.
func Numbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = Numbers(v[k])
		}
	case []any:
		for i := range v {
			v[i] = Numbers(v[i])
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64() // beyond its range it is infinite, which no JSON is made of
		return f
	}
	return v
}

// encode is a value as compact JSON with sorted keys. Its length is counted before it is made.
func encode(v ref.Val) (string, error) {
	left := MaxValue
	plain, err := native(v, &left)
	if err != nil {
		return "", err
	}
	if left = MaxValue - length(plain, MaxValue); left < 0 {
		return "", errTooLarge
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(plain); err != nil {
		return "", err
	}
	return string(bytes.TrimSuffix(out.Bytes(), []byte("\n"))), nil
}

// length is how many bytes the JSON of a value has. It ends once these are more than most.
func length(v any, most int) int {
	n := 2
	switch v := v.(type) {
	case string:
		n += len(v)
		for i := range len(v) {
			if c := v[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
				n += 5 // at most
			}
		}
	case int64, float64, bool, nil:
		n = 24
		if i, ok := v.(int64); ok {
			n = len(strconv.FormatInt(i, 10))
		}
	case []any:
		for _, one := range v {
			if n > most {
				break
			}
			n += 1 + length(one, most-n)
		}
	case map[string]any:
		for name, one := range v {
			if n > most {
				break
			}
			n += 2 + length(name, most-n) + length(one, most-n)
		}
	}
	return n
}
