package provider_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
)

// Anthropic's older models refuse an input to which the longest answer would not fit. A shorter answer is asked for, as
// long as there is room for one.
func TestAnInputThatLeavesLessRoom(t *testing.T) {
	const words = "input length and `max_tokens` exceed context limit: %d + 64000 > 200000, decrease input length or " +
		"`max_tokens` and try again"
	w := modeltest.Anthropic
	for input, room := range map[int]int{150_000: 50_000, 199_000: 0} {
		synctest.Test(t, func(t *testing.T) {
			refused := w.Error("invalid_request_error", fmt.Sprintf(words, input))
			s := modeltest.NewServer(t, modeltest.Answer(400, refused), w.Stream(modeltest.Turn{Text: []string{"x"}}))
			_, err := ask(t, open(t, w, s), model.Request{})
			if room == 0 {
				if e, ok := model.AsError(err); !ok || e.Kind != model.KindContextOverflow || len(s.Requests()) != 1 {
					t.Errorf("%v after %d requests", err, len(s.Requests()))
				}
				return
			}
			var asked struct {
				MaxTokens int `json:"max_tokens"`
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(s.Requests()[1].Body, &asked); err != nil || asked.MaxTokens != room {
				t.Errorf("%d tokens are asked for, %v", asked.MaxTokens, err)
			}
		})
	}
}

// A request that is too large is sent without its images.
func TestAPayloadThatIsTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modeltest.Gemini
		s := modeltest.NewServer(t, modeltest.Answer(400, w.Error("invalid_request_error",
			"Request payload size exceeds the limit: 20971520 bytes.")), w.Stream(modeltest.Turn{Text: []string{"x"}}))
		shown := model.Message{Role: model.User, Content: []model.Block{{Type: model.ImageBlock, Image: image}}}
		if _, err := ask(t, open(t, w, s), model.Request{Messages: []model.Message{shown}}); err != nil {
			t.Fatal(err)
		}
		if last := string(s.Requests()[1].Body); strings.Contains(last, "inlineData") {
			t.Error(last)
		}
	})
}

// An answer without an end is no answer.
func TestAnAnswerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modeltest.Gemini
		piece := modeltest.Event{Data: `{"pad":"` + strings.Repeat("x", 8<<20) + `"}`}
		p := modeltest.Play{piece, piece, piece, piece, piece, piece, piece, piece, piece}
		_, err := ask(t, open(t, w, modeltest.NewServer(t, p)), model.Request{})
		if e, ok := model.AsError(err); !ok || e.Kind != model.KindProtocol || e.Retryable {
			t.Errorf("%v", err)
		}
	})
}

// What an answer has cost that came to nothing is told, even where it is told with the failure, or behind it.
func TestAnAnswerThatIsSpoiledHasItsCost(t *testing.T) {
	converse := modeltest.Converse.Stream(modeltest.Turn{})
	for name, tt := range map[string]struct {
		w modeltest.Wire
		p modeltest.Play
	}{
		"Gemini": {modeltest.Gemini, modeltest.Play{{
			Data: `{"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL"}],"usageMetadata":{` +
				`"promptTokenCount":100,"candidatesTokenCount":7}}`,
		}}},
		"Gemini, which tells it last": {modeltest.Gemini, modeltest.Play{
			{Data: `{"candidates":[{"finishReason":"OTHER"}]}`},
			{Data: `{"usageMetadata":{"promptTokenCount":100,"candidatesTokenCount":7}}`},
		}},
		"Bedrock": {modeltest.Converse, modeltest.Play{
			modeltest.Framed("messageStop", `{"stopReason":"malformed_model_output"}`), converse[len(converse)-1],
		}},
		"Responses": {modeltest.Responses, modeltest.Play{{
			Data: `{"type":"response.failed","response":{"error":{"code":"server_error"},"usage":{"input_tokens":100,` +
				`"output_tokens":7}}}`,
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told model.Usage
				var failed error
				m := open(t, tt.w, modeltest.NewServer(t, tt.p))
				for p, err := range m.Stream(t.Context(), model.Request{Messages: []model.Message{user("hi")}}) {
					if p.Type == model.PartUsage {
						told = p.Usage
					}
					failed = err
				}
				if failed == nil || told.Input != 100 || told.Output != 7 || told.Cost.Total() == 0 {
					t.Errorf("%v, %+v", failed, told)
				}
			})
		})
	}
}

// Bedrock and Gemini take less of images than others.
func TestImagesOfOneRequest(t *testing.T) {
	big := append([]byte("\x89PNG\r\n\x1a\n"), bytes.Repeat([]byte{1}, 3<<20)...)
	for _, tt := range []struct {
		w    modeltest.Wire
		n    int
		data []byte
		most int // of n that are sent
	}{
		{modeltest.Converse, 21, image.Data, 20},
		{modeltest.Anthropic, 21, image.Data, 21},
		{modeltest.Gemini, 4, big, 3},
		{modeltest.Converse, 4, big, 3},
		{modeltest.Anthropic, 4, big, 4},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := modeltest.NewServer(t, tt.w.Stream(modeltest.Turn{Text: []string{"x"}}))
			shown := model.Message{Role: model.User}
			for range tt.n {
				shown.Content = append(shown.Content, model.Block{
					Type: model.ImageBlock, Image: &model.Image{MediaType: "image/png", Data: tt.data},
				})
			}
			if _, err := ask(t, open(t, tt.w, s), model.Request{Messages: []model.Message{shown}}); err != nil {
				t.Fatal(err)
			}
			n := tt.n - strings.Count(string(s.Requests()[0].Body), "an image is left out")
			if n == 0 || n > tt.most || tt.most == tt.n && n < tt.n {
				t.Errorf("%s: %d of %d images are sent, %d at most are taken", tt.w.API, n, tt.n, tt.most)
			}
		})
	}
}
