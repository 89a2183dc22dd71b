package submission

import (
	"bytes"
	"encoding/json"
	"errors"
	"image"
	"image/png"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool/result"
)

// noise is a PNG of a side, which does not get smaller when it is compressed.
func noise(t *testing.T, side int) []byte {
	t.Helper()
	m := image.NewNRGBA(image.Rect(0, 0, side, side))
	r := rand.New(rand.NewPCG(1, 2))
	for i := range m.Pix {
		m.Pix[i] = byte(r.Uint32()) | 1
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func admitting() *Service { return NewService(nil, pinned{}, nil, &worker{}, nil) }

func admitted(t *testing.T, in Input) (Admission, error) {
	t.Helper()
	in.Key = session.Key{Agent: "a", Instance: "i"}
	return admitting().admission(t.Context(), &in)
}

// What is wrong with an image, or a file, is said before anything is accepted, and of which.
func TestBadContentIsRefused(t *testing.T) {
	small := noise(t, 8)
	wide := []byte("GIF89a\xff\xff\xff\xff\x00\x00\x00")
	for name, c := range map[string]struct {
		in   Input
		want error
		says string
	}{
		"too many":      {Input{Images: slicesOf(small, MaxImages+1)}, ErrImages, "at most 10"},
		"no data":       {Input{Images: [][]byte{small, {}}}, ErrImages, "images[1]"},
		"too long":      {Input{Images: [][]byte{append(small, make([]byte, MaxImage)...)}}, ErrImages, "images[0]"},
		"long together": {Input{Images: slicesOf(append(small, make([]byte, 4<<20)...), 4)}, ErrImages, "images[3]"},
		"no image":      {Input{Images: [][]byte{small, []byte("%PDF-1.7")}}, ErrImages, "images[1]: it is neither"},
		"cut off":       {Input{Images: [][]byte{small[:len(small)/2]}}, ErrImages, "images[0]"},
		"too wide":      {Input{Images: [][]byte{wide}}, ErrImages, "images[0]"},
		"no path":       {Input{Files: []string{"a", " "}, Message: "m"}, ErrFiles, "files[1]"},
		"a control":     {Input{Files: []string{"a\nb"}, Message: "m"}, ErrFiles, "files[0]"},
		"a long path":   {Input{Files: []string{strings.Repeat("a", MaxPath+1)}, Message: "m"}, ErrFiles, "files[0]"},
		"many files":    {Input{Files: make([]string, MaxFiles+1), Message: "m"}, ErrFiles, "at most 100"},
		"a steer": {Input{
			Message: "m", WhenBusy: Steer, Options: lane.Options{ResultSchema: []byte(`{}`)},
		}, result.ErrSchema, "joins"},
		"nothing said": {Input{Files: []string{"a"}}, ErrMessageEmpty, "blank"},
	} {
		if _, err := admitted(t, c.in); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func slicesOf(data []byte, n int) (all [][]byte) {
	for range n {
		all = append(all, data)
	}
	return all
}

// Large images are beside the input, which names them; small ones are in it. Their type is what they are.
func TestImagesOfAnInput(t *testing.T) {
	small, large := noise(t, 8), noise(t, 200)
	adm, err := admitted(t, Input{Message: " ", Images: [][]byte{small, large, large}, Files: []string{"src/a.go"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(adm.Input) > 10_000 || len(adm.Images) != 2 || !bytes.Equal(adm.Images[0].Data, large) {
		t.Errorf("the input has %d bytes and %d images beside it", len(adm.Input), len(adm.Images))
	}
	var m model.Message
	if err := json.Unmarshal(adm.Input, &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Content) != 4 || m.Content[0].Type != model.FileBlock || m.Content[0].Text != "src/a.go" {
		t.Fatalf("the message is %+v", m)
	}
	for i, b := range m.Content[1:] {
		inline := i == 0
		if b.Image.MediaType != "image/png" || (b.Image.SHA256 == "") != inline || (len(b.Image.Data) > 0) != inline {
			t.Errorf("image %d is %s of %d bytes, %q", i, b.Image.MediaType, len(b.Image.Data), b.Image.SHA256)
		}
	}
	wide, err := admitted(t, Input{Images: [][]byte{wideImage(t)}})
	if err != nil {
		t.Fatal(err)
	}
	if len(wide.Images) == 0 && !strings.Contains(string(wide.Input), "media_type") {
		t.Errorf("a wide image: %.100s", wide.Input)
	}
}

func wideImage(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 3000, 2))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
