package wire_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/wire"
)

// BenchmarkDecode reads an answer of 5,000 deltas: the time of one is a 5,000th.
func BenchmarkDecode(b *testing.B) {
	const deltas = 5000
	var anthropic, chat, responses strings.Builder
	for range deltas {
		const text = "a piece of text of exactly forty bytes, "
		anthropic.WriteString(event("content_block_delta", `"index":0,"delta":{"type":"text_delta","text":"`+text+`"}`))
		chat.WriteString(chunk(`{"content":"` + text + `"}`))
		responses.WriteString(event("response.output_text.delta", `"item_id":"m","output_index":0,"delta":"`+text+`"`))
	}
	anthropic.WriteString(event("message_stop", ""))
	chat.WriteString(done)
	responses.WriteString(event("response.completed", `"response":{}`))
	for api, src := range map[model.API]string{
		model.APIAnthropic: anthropic.String(), model.APIChat: chat.String(), model.APIResponses: responses.String(),
	} {
		b.Run(string(api), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, err := range parts(api, strings.NewReader(src)) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/deltas, "ns/delta")
		})
	}
}

// BenchmarkEncode makes the request of one more turn of a conversation of 1,500 prompts.
func BenchmarkEncode(b *testing.B) {
	for _, n := range []int{1, 1500} {
		var messages []model.Message
		for i := range n {
			messages = append(
				messages, says(model.User, textOf(fmt.Sprint("prompt ", i))),
				says(model.Assistant, textOf("an answer")),
			)
		}
		for _, api := range apis {
			b.Run(fmt.Sprintf("%s/%d", api, n), func(b *testing.B) {
				e := wire.NewEncoder(target(api), wire.Omission{})
				head := wire.Head{}.Append(nil, target(api))
				e.Take(messages)
				b.ReportAllocs()
				for b.Loop() {
					e.Take(append(
						messages[:len(messages):len(messages)], says(model.User, textOf("more")),
					)[:len(messages)])
					e.Body(head, true)
				}
			})
		}
	}
}

// BenchmarkFirst encodes a conversation of 1,500 prompts that is new here.
func BenchmarkFirst(b *testing.B) {
	var messages []model.Message
	for i := range 1500 {
		messages = append(
			messages, says(model.User, textOf(fmt.Sprint("prompt ", i))), says(model.Assistant, textOf("an answer")),
		)
	}
	for _, api := range apis {
		b.Run(string(api), func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n = len(bytes.Join([][]byte{body(target(api), wire.Omission{}, messages)}, nil))
			}
			b.SetBytes(int64(n))
		})
	}
}
