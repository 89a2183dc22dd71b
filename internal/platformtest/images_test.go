package platformtest_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"image"
	"image/png"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/model"
)

// noise is a PNG that does not get smaller when it is compressed.
func noise(w *world) []byte {
	m := image.NewNRGBA(image.Rect(0, 0, 200, 200))
	r := rand.New(rand.NewPCG(1, 2))
	for i := range m.Pix {
		m.Pix[i] = byte(r.Uint32()) | 1
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		w.Fatal(err)
	}
	return b.Bytes()
}

// A replica is killed before and after every commit of a submission with an image. Another one has the image, events
// name it only, and the same request again is the same submission.
func TestImageKilledAtEveryCommit(t *testing.T) {
	atEveryCommit(t, 3, func(w *world, n int64, after bool) bool {
		shot := noise(w)
		submit := func(client pawlv1.SubmissionServiceClient) (*pawlv1.SubmitResponse, error) {
			ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
			defer cancel()
			return client.Submit(ctx, &pawlv1.SubmitRequest{
				Key: key("shell"), Message: leaf("one", 1), IdempotencyKey: "the image", Files: []string{"a.go"},
				Images: []*pawlv1.Image{{Data: shot}, {MediaType: "text/html", Data: shot}},
			})
		}
		met := w.atCommit(w.a, n, after, w.a.Strike)
		_, _ = submit(pawlv1.NewSubmissionServiceClient(w.a.GRPC)) // the answer may get lost
		select {
		case <-w.a.Dead():
		case <-time.After(time.Hour):
		}
		w.a.DB.Strike(nil)
		p := w.a
		if met.Load() {
			p = w.next(w.a)
		}
		again, err := submit(pawlv1.NewSubmissionServiceClient(p.GRPC))
		if err != nil || !again.GetReplayed() {
			w.Fatalf("the replay: %v, %v", again, err)
		}
		w.wait(p, again.GetSubmission().GetSubmissionId(), "one")
		id, named := w.sessionID("shell"), 0
		for _, b := range w.entries(id)[0].Message.Content {
			if b.Type != model.ImageBlock {
				continue
			}
			named++
			got, err := pawlv1.NewSessionServiceClient(p.GRPC).GetImage(w.Context(),
				&pawlv1.GetImageRequest{SessionId: id, Sha256: b.Image.SHA256})
			i := got.GetImage()
			if err != nil || !bytes.Equal(i.GetData(), shot) || i.GetMediaType() != "image/png" {
				w.Errorf("the image is %v, %v", i.GetMediaType(), err)
			}
		}
		if named != 2 {
			w.Errorf("the input has %d images", named)
		}
		for _, e := range w.events(id) {
			if e.Type == event.Started && e.Weight() > 10_000 {
				w.Errorf("an event has %d bytes", e.Weight())
			}
		}
		w.finish(p, "shell", "one")
		return met.Load()
	})
}

// Images come over HTTP in base64, and are read there, by whoever may read the session.
func TestImagesOverHTTP(t *testing.T) {
	within(t, func(w *world) {
		shot := noise(w)
		res, body := post(w.T, w.a, "/v1/agents/shell/instances/i/sessions/s:dispatch",
			`{"message": "", "images": [{"data": "`+base64.StdEncoding.EncodeToString(shot)+`"}]}`)
		if res.StatusCode != http.StatusOK {
			w.Fatalf("%s: %s", res.Status, body)
		}
		_, id, _ := strings.Cut(body, `"sessionId":"`)
		id, _, _ = strings.Cut(id, `"`)
		entries := w.entries(id)
		if len(entries) == 0 || len(entries[0].Message.Content) != 1 {
			w.Fatalf("the entries are %v", entries)
		}
		for sum, status := range map[string]int{
			entries[0].Message.Content[0].Image.SHA256: http.StatusOK, "no": http.StatusNotFound,
		} {
			req, err := http.NewRequestWithContext(w.Context(), http.MethodGet,
				"http://localhost/v1/sessions/"+id+"/images/"+sum, nil)
			if err != nil {
				w.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+w.a.Token)
			res, err := w.a.HTTP.Do(req)
			if err != nil {
				w.Fatal(err)
			}
			said, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != status ||
				status == http.StatusOK && !strings.Contains(string(said), base64.StdEncoding.EncodeToString(shot)) {
				w.Errorf("%s: %s, %.200s, %v", sum, res.Status, said, err)
			}
			if err := res.Body.Close(); err != nil {
				w.Fatal(err)
			}
		}
		_, err := pawlv1.NewSubmissionServiceClient(w.a.GRPC).Submit(w.Context(), &pawlv1.SubmitRequest{
			Key: key("shell"), Message: "say: hi", Images: []*pawlv1.Image{{Data: shot}, {Data: []byte("no image")}},
		})
		if rpc.Reason(err) != "IMAGES_INVALID" || !strings.Contains(err.Error(), "images[1]") {
			w.Errorf("told %v", err)
		}
	})
}
