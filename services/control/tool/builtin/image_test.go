package builtin

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/png"
	"testing"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool"
)

func TestImagesAreMadeToFit(t *testing.T) {
	encoded := func(w, h int) []byte {
		var b bytes.Buffer
		if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, w, h))); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	show := func(data []byte) tool.Result {
		return render(tool.ReadText{Path: "a"}, tool.TextReply{Image: data})
	}

	small := show(encoded(3, 2))
	if got, err := small.FitImages(t.Context()); err != nil || len(got.Images) != 1 || got.Text != small.Text {
		t.Errorf("small: %+v, %v", got, err)
	}
	large := show(encoded(4000, 2000))
	got, err := large.FitImages(t.Context())
	want := large.Text + " It has 4000 x 2000 pixels and is shown as image/png of 2000 x 1000."
	if err != nil || got.IsError || len(got.Images) != 1 || got.Text != want {
		t.Errorf("large: %q, %v", got.Text, err)
	}
	cut := show(encoded(3, 2)[:30])
	got, err = cut.FitImages(t.Context())
	want = "a is an image (image/png, 30 bytes). The image cannot be shown: unexpected EOF." +
		" Use bash to inspect it, or to make a copy that is smaller or of another kind."
	if err != nil || !got.IsError || len(got.Images) != 0 || got.Text != want {
		t.Errorf("cut: %+v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := small.FitImages(ctx); !errors.Is(err, context.Canceled) || len(got.Images) != 0 {
		t.Errorf("canceled: %+v, %v", got, err)
	}
	text := tool.Result{Text: "x", Images: []model.Image(nil)}
	if got, err := text.FitImages(ctx); err != nil || got.Text != "x" {
		t.Errorf("without images: %+v, %v", got, err)
	}
}
