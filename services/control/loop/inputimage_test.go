package loop_test

import (
	"bytes"
	"image"
	"image/png"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// noise is a PNG that does not get smaller when it is compressed.
func noise(t *testing.T, seed uint64) []byte {
	t.Helper()
	m := image.NewNRGBA(image.Rect(0, 0, 200, 200))
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range m.Pix {
		m.Pix[i] = byte(r.Uint32()) | 1
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// The model is shown the images of a prompt at every turn, by every owner; events and entries name them only.
func TestImagesOfAPrompt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		told := &requests{Model: b.model}
		shown := func(n int) {
			t.Helper()
			for _, req := range told.all {
				var got [][]byte
				for _, m := range req.Messages {
					for _, k := range m.Content {
						if k.Image != nil {
							got = append(got, k.Image.Data)
						}
					}
				}
				if len(got) != 2 || !bytes.Equal(got[0], noise(t, 1)) || !bytes.Equal(got[1], noise(t, 2)) {
					t.Errorf("the model was shown %d images", len(got))
				}
			}
			if len(told.all) != n {
				t.Errorf("the model was asked %d times, want %d", len(told.all), n)
			}
			told.all = nil
		}
		b.die()
		b.model = told
		b.start(agent.Shell())
		got, err := b.service.Submit(t.Context(), submission.Input{
			Key: key("s"), Message: "ls", Images: [][]byte{noise(t, 1), noise(t, 2)}, Files: []string{"a.go"},
		})
		if err != nil {
			t.Fatal(err)
		}
		b.expect(b.wait(got.Submission.ID), lane.Completed, "ls")
		shown(2)
		b.die()
		b.start(agent.Shell()) // with nothing in memory
		b.expect(b.wait(b.submit("s", "say: hi").ID), lane.Completed, "hi")
		shown(1)
		entries, err := b.store.Entries(t.Context(), got.Submission.SessionID, 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		named := 0
		for _, k := range entries[0].Message.Content {
			if k.Type == model.ImageBlock && len(k.Image.Data) == 0 && k.Image.SHA256 != "" {
				named++
			}
		}
		if named != 2 || len(entries[0].Body) > 1000 {
			t.Errorf("the input names %d images: %.200s", named, entries[0].Body)
		}
		for _, e := range b.stream(got.Submission.LaneID) {
			if e.Type == event.Started && e.Entry != nil && e.Weight() > 1000 {
				t.Errorf("an event has %d bytes", e.Weight())
			}
		}
	})
}
