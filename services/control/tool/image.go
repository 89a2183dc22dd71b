package tool

import (
	"context"
	"errors"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/picture"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

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
	said := []byte(clip.Sanitize(err.Error()))
	if len(said) > 0 && 'a' <= said[0] && said[0] <= 'z' {
		said[0] -= 'a' - 'A'
	}
	return clip.Shorten(string(said), maxMessage)
}
