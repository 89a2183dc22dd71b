package drive

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/pawl-dev/pawl/services/control/step"
)

// Decode reads JSON in the forms of expressions: a number without a point or an exponent that fits is an int64.
func Decode(raw json.RawMessage) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("reading JSON: %w", err)
	}
	return numbers(v), nil
}

func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if !strings.ContainsAny(v.String(), ".eE") {
			if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
				return n
			}
		}
		f, err := v.Float64()
		if err != nil {
			return v.String() // beyond what a number can be
		}
		return f
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = numbers(v[k])
		}
	}
	return v
}

// view is what expressions see of a step that has a record.
func view(r *step.Record) map[string]any {
	out := map[string]any{}
	if r.Output != nil {
		if v, err := Decode(r.Output); err == nil {
			if m, ok := v.(map[string]any); ok {
				out = m
			}
		}
	}
	status := r.State
	if status == step.Unknown {
		status = step.Failed
	}
	out["status"], out["attempts"], out["duration"] = status.String(), int64(r.Try), r.Took.String()
	if r.State == step.Skipped {
		out["attempts"] = int64(0)
	}
	if f := r.Failed; f != nil && r.State != step.Completed {
		out["error"] = seen(f, r.Path)
	}
	return out
}

// seen is a failure as expressions see it.
func seen(f *step.Failure, path string) map[string]any {
	where := f.Step
	if where == "" {
		where = path
	}
	return map[string]any{"step": where, "reason": f.Reason, "message": f.Message}
}

// at names the step at which a failure was first.
func at(f *step.Failure, path string) *step.Failure {
	if f == nil || f.Step != "" {
		return f
	}
	c := *f
	c.Step = path
	return &c
}
