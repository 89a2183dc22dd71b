// Package picture makes of a file an image that every provider of models takes. A provider refuses a whole request for
// one image that it does not take, and an image stays in its conversation: so what is wrong with an image has to be
// found before it enters one.
//
//	bytes ─ kind by content ─▶ size, cost ─▶ decode ─┬─ fits ──────────────────▶ as it is
//	                                                └─ shrink, encode anew ────▶ PNG or JPEG
//
// Invariants: an Image that Fit returns was decoded to its end, has at most MaxSide pixels a side, and its data is at
// most MaxBase64 bytes long in base64; at most maxMemory bytes of decoded pixels are in memory at a time, whatever a
// file says of itself.
package picture

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"net/http"
	"slices"

	"golang.org/x/image/webp"
	"golang.org/x/sync/semaphore"

	"github.com/pawl-dev/pawl/services/control/model"
)

// Bounds of an Image.
const (
	// MaxSide is in pixels. Providers take up to 8,000, but some only 2,000 in a request with many images, and all look
	// at a smaller copy of what is larger.
	MaxSide = 2000
	// MaxBase64 is in bytes, counted as an image is sent.
	MaxBase64 = 5 << 20
)

// maxMemory bounds the decoded pixels of all images that are decoded at a time, in bytes, and so those of one.
const maxMemory = 128 << 20

// maxScans is how often the data of a JPEG may go over its pixels. Encoders use about 10.
const maxScans = 64

// ErrUnusable says why an image cannot be shown to a model; its text is meant for the model.
var ErrUnusable = errors.New("the image cannot be shown")

func unusable(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrUnusable}, args...)...)
}

// format is a kind of file that providers take.
type format struct {
	mediaType string
	config    func(io.Reader) (image.Config, error)
	decode    func(io.Reader) (image.Image, error)
}

var formats = []format{
	{"image/png", png.DecodeConfig, png.Decode},
	{"image/jpeg", jpeg.DecodeConfig, jpeg.Decode},
	{"image/gif", gif.DecodeConfig, gif.Decode}, // its first picture
	{"image/webp", webp.DecodeConfig, webp.Decode},
}

// Type is the media type of data by its content; "" for what is no image that providers take.
func Type(data []byte) string {
	t := http.DetectContentType(data)
	if slices.ContainsFunc(formats, func(f format) bool { return f.mediaType == t }) {
		return t
	}
	return ""
}

// Fitted is an image that every provider takes.
type Fitted struct {
	model.Image
	Width, Height int
	// Original is the size that the file has, when the image is a smaller copy of it.
	Original image.Point
}

// memory is shared by all of the process, as its memory is.
var memory = semaphore.NewWeighted(maxMemory)

// Fit makes an image of a file: the file itself if providers take it, else a copy that is encoded anew and no larger
// than it has to be. The error of a file that cannot be used is an ErrUnusable. It waits while other images take too
// much memory, and takes up to some seconds of processor time. Safe for concurrent use.
func Fit(ctx context.Context, data []byte) (Fitted, error) {
	mediaType := Type(data)
	i := slices.IndexFunc(formats, func(f format) bool { return f.mediaType == mediaType })
	if i < 0 {
		return Fitted{}, unusable("it is neither PNG, JPEG, GIF nor WebP")
	}
	config, err := guarded(formats[i].config, data)
	if err != nil {
		return Fitted{}, unusable("%v", err)
	}
	cost, err := costOf(mediaType, data, config)
	if err != nil {
		return Fitted{}, err
	}
	if err := memory.Acquire(ctx, cost); err != nil {
		return Fitted{}, fmt.Errorf("waiting for memory to decode an image: %w", err)
	}
	defer memory.Release(cost)
	decoded, err := guarded(formats[i].decode, data)
	if err != nil {
		return Fitted{}, unusable("%v", err)
	}
	return fit(decoded, model.Image{MediaType: mediaType, Data: data})
}

// costOf is how many bytes of memory decoding takes at most.
func costOf(mediaType string, data []byte, c image.Config) (int64, error) {
	if c.Width <= 0 || c.Height <= 0 {
		return 0, unusable("it has no pixels")
	}
	perPixel := bytesPerPixel(c)
	if mediaType == "image/jpeg" {
		// A marker within the data would have a 0 behind it.
		if bytes.Count(data, []byte{0xff, 0xda}) > maxScans {
			return 0, unusable("it has too many scans")
		}
		if bytes.Contains(data, []byte{0xff, 0xc2}) { // progressive: the coefficients of all pixels are kept
			perPixel *= 5
		}
	}
	pixels := int64(c.Width) * int64(c.Height) // each at most 32 bits
	if pixels > maxMemory/perPixel {
		return 0, unusable("%d x %d pixels are too many to decode", c.Width, c.Height)
	}
	return pixels * perPixel, nil
}

// fit is original if it is small enough, and else a copy.
func fit(decoded image.Image, original model.Image) (Fitted, error) {
	size := decoded.Bounds().Size()
	if max(size.X, size.Y) <= MaxSide && fits(original.Data) {
		return Fitted{Image: original, Width: size.X, Height: size.Y}, nil
	}
	for side := min(MaxSide, max(size.X, size.Y)); side > 0; side /= 2 {
		small := shrink(decoded, within(size, side))
		encoded, ok, err := encode(small)
		if err != nil {
			return Fitted{}, err
		}
		if ok {
			at := small.Bounds().Size()
			return Fitted{Image: encoded, Width: at.X, Height: at.Y, Original: size}, nil
		}
	}
	return Fitted{}, unusable("it does not become small enough") // a single pixel always does
}

func fits(data []byte) bool { return base64.StdEncoding.EncodedLen(len(data)) <= MaxBase64 }

// within is size, made smaller so that no side is longer than side.
func within(size image.Point, side int) image.Point {
	longest := max(size.X, size.Y)
	if longest <= side {
		return size
	}
	return image.Pt(max(1, size.X*side/longest), max(1, size.Y*side/longest))
}

// encode is an image as PNG, which keeps letters sharp, or else as JPEG, if either is small enough.
func encode(m *image.RGBA) (encoded model.Image, ok bool, err error) {
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&b, m); err != nil {
		return model.Image{}, false, fmt.Errorf("encoding an image: %w", err)
	}
	if fits(b.Bytes()) {
		return model.Image{MediaType: "image/png", Data: b.Bytes()}, true, nil
	}
	b.Reset()
	if err := jpeg.Encode(&b, onWhite(m), &jpeg.Options{Quality: 85}); err != nil {
		return model.Image{}, false, fmt.Errorf("encoding an image: %w", err)
	}
	return model.Image{MediaType: "image/jpeg", Data: b.Bytes()}, fits(b.Bytes()), nil
}
