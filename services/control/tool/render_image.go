package tool

import (
	"context"
	"errors"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/picture"
)

// renderImage shows an image as it came: see FitImages.
func renderImage(path string, data []byte) Result {
	mediaType := picture.Type(data)
	return Result{
		Text:    fmt.Sprintf("%s is an image (%s, %d bytes).", path, mediaType, len(data)),
		Images:  []model.Image{{MediaType: mediaType, Data: data}},
		Details: fields{"path": path, "mediaType": mediaType, "bytes": len(data)}.encode(),
	}
}

// FitImages is r with images that every provider of models takes, and a text that says what was changed. A result with
// an image that cannot be shown is an error without images. It waits while other images are decoded; the only error is
// that of the context.
func (r Result) FitImages(ctx context.Context) (Result, error) {
	images := r.Images
	r.Images = nil
	for _, image := range images {
		f, err := picture.Fit(ctx, image.Data)
		switch {
		case errors.Is(err, picture.ErrUnusable):
			r.Text += fmt.Sprintf(" %s. Use bash to inspect it, or to make a copy that is smaller or of another kind.",
				sentence(err))
			r.Images, r.IsError = nil, true
			return r, nil
		case err != nil:
			return Result{}, err
		case f.Original.X > 0:
			r.Text += fmt.Sprintf(" It has %d x %d pixels and is shown as %s of %d x %d.",
				f.Original.X, f.Original.Y, f.MediaType, f.Width, f.Height)
		}
		r.Images = append(r.Images, f.Image)
	}
	return r, nil
}

// sentence is an error's text as the beginning of a sentence.
func sentence(err error) string {
	text := []byte(sanitize(err.Error()))
	if len(text) > 0 && 'a' <= text[0] && text[0] <= 'z' {
		text[0] -= 'a' - 'A'
	}
	return shorten(string(text), maxMessage)
}
