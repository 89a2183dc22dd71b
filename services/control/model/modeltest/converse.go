package modeltest

import (
	"bytes"
	"encoding/base64"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"

	"github.com/pawl-dev/pawl/services/control/model"
)

// Converse is the protocol of AWS Bedrock's ConverseStream, whose events are framed as AWS does it.
var Converse = Wire{
	API:    model.APIConverse,
	Path:   "/model/us.anthropic.claude-sonnet-4-5-20250929-v1:0/converse-stream",
	Stream: converseStream,
	Error: func(kind, message string) string {
		return text(object{"__type": "com.amazon.coral#" + awsName(kind), "type": kind, "message": message})
	},
	ErrorEvent: func(kind, message string) Event {
		return framed(map[string]string{
			":message-type": "exception", ":exception-type": awsName(kind), ":content-type": "application/json",
		}, awsName(kind), text(object{"message": message}))
	},
	Framed: true,
}

// awsNames are AWS's words for what others say.
var awsNames = map[string]string{
	"overloaded_error": "serviceUnavailableException", "server_error": "internalServerException",
	"rate_limit_exceeded": "throttlingException", "invalid_request_error": "validationException",
}

func awsName(kind string) string {
	if name, ok := awsNames[kind]; ok {
		return name
	}
	return kind
}

// Framed is an event of this name as AWS frames it.
func Framed(name, data string) Event {
	return framed(map[string]string{
		":message-type": "event", ":event-type": name, ":content-type": "application/json",
	}, name, data)
}

// framed is an event as AWS frames it.
func framed(headers map[string]string, name, data string) Event {
	m := eventstream.Message{Payload: []byte(data)}
	for k, v := range headers {
		m.Headers.Set(k, eventstream.StringValue(v))
	}
	var frame bytes.Buffer
	if err := eventstream.NewEncoder().Encode(&frame, m); err != nil {
		panic(err) // headers of texts always have a form
	}
	return Event{Name: name, Data: data, Raw: frame.String(), Framed: true}
}

func converseStream(t Turn) Play {
	u := t.usage()
	var p Play
	emit := func(name string, data object) {
		data["p"] = "abcdefgh"[:1+len(p)%8] // hides how long the texts are
		p = append(p, Framed(name, text(data)))
	}
	emit("messageStart", object{"role": "assistant"})
	n := 0
	block := func(deltas ...object) {
		for _, d := range deltas {
			emit("contentBlockDelta", object{"contentBlockIndex": n, "delta": d})
		}
		emit("contentBlockStop", object{"contentBlockIndex": n})
		n++
	}
	if t.Redacted != "" {
		block(object{"reasoningContent": object{
			"redactedContent": base64.StdEncoding.EncodeToString([]byte(t.Redacted)),
		}})
	}
	if len(t.Thinking) > 0 || t.Signature != "" {
		var ds []object
		for _, s := range t.Thinking {
			ds = append(ds, object{"reasoningContent": object{"text": s}})
		}
		block(append(ds, object{"reasoningContent": object{"signature": t.Signature}})...)
	}
	if len(t.Text) > 0 {
		var ds []object
		for _, s := range t.Text {
			ds = append(ds, object{"text": s})
		}
		block(ds...)
	}
	for _, c := range t.Calls {
		emit("contentBlockStart", object{
			"contentBlockIndex": n, "start": object{"toolUse": object{"toolUseId": c.ID, "name": c.Tool}},
		})
		var ds []object
		for _, s := range c.Args {
			ds = append(ds, object{"toolUse": object{"input": s}})
		}
		block(ds...)
	}
	reason := map[model.Stop]string{
		model.StopEnd: "end_turn", model.StopLength: "max_tokens", model.StopTools: "tool_use",
	}[t.stop()]
	if t.Refused {
		reason = "guardrail_intervened"
	}
	emit("messageStop", object{"stopReason": reason})
	emit("metadata", object{
		"usage": object{
			"inputTokens": u.Input, "outputTokens": u.Output, "cacheReadInputTokens": u.CacheRead,
			"cacheWriteInputTokens": u.CacheWrite, "totalTokens": u.Total(),
		},
		"metrics": object{"latencyMs": len(strings.Join(t.Text, ""))},
	})
	return p
}
