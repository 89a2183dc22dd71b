package lane

import (
	"encoding/json"
	"fmt"
)

// Options is what the caller of a loop asks for beside its input: of a root, with the submission; of a sub-agent, its
// parent. They never change. The zero value asks for nothing.
type Options struct {
	// ResultSchema is the JSON Schema of the result that the loop has to end with; nil wants a text.
	ResultSchema json.RawMessage `json:"result_schema,omitempty"`
	// Compact asks for a summary of the conversation instead of an answer. The input is never told to a model.
	Compact bool `json:"compact,omitempty"`
}

// Encode is the options as they are stored, "" when they ask for nothing. Equal options have equal texts.
func (o Options) Encode() (string, error) {
	b, err := json.Marshal(o)
	if err != nil {
		return "", fmt.Errorf("encoding the options of a loop: %w", err)
	}
	if string(b) == "{}" {
		return "", nil
	}
	return string(b), nil
}

// DecodeOptions reads what Encode has written.
func DecodeOptions(text string) (o Options, err error) {
	if text == "" {
		return o, nil
	}
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return Options{}, fmt.Errorf("decoding the options of a loop: %w", err)
	}
	return o, nil
}
