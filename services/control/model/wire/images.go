package wire

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image"
	_ "image/gif"  // for image.DecodeConfig
	_ "image/jpeg" // for image.DecodeConfig
	_ "image/png"  // for image.DecodeConfig
	"slices"

	"github.com/pawl-dev/pawl/services/control/model"
)

// Bounds of images, which are those of the strictest server. What enters a conversation was bounded before; this is the
// second wall.
const (
	maxImage      = 5 << 20 // bytes of one image in base64
	maxImageSide  = 8000    // pixels
	maxImages     = 100     // of one request
	maxImageBytes = model.MaxRequestImages

	converseImages = 20       // of one request to Bedrock
	smallRequest   = 12 << 20 // bytes of all images in base64 where a whole request may have 20 MB
)

// mostImages is how many images a request may hold, and how many bytes of them in base64.
func mostImages(t Target) (images, bytes int) {
	images, bytes = maxImages, maxImageBytes
	switch t.API {
	case model.APIConverse:
		images, bytes = converseImages, smallRequest
	case model.APIGemini:
		bytes = smallRequest
	}
	if t.MaxImages > 0 {
		images = t.MaxImages
	}
	return images, bytes
}

var mediaTypes = []string{"image/png", "image/jpeg", "image/gif", "image/webp"}

// image is an image as a piece of a turn, or a text that says why it is left out.
func (e *Encoder) image(i *model.Image) content {
	e.seen++
	size := base64.StdEncoding.EncodedLen(i.Bytes())
	kind := i.MediaType
	if is := sniff(i.Data); is != "" {
		kind = is // servers refuse what is declared wrongly
	}
	why := ""
	switch {
	case e.target.Info.Images != nil && !*e.target.Info.Images:
		why = "this model does not take images"
	case e.omit.Images:
		why = "the provider refused it"
	case !slices.Contains(mediaTypes, kind), kind == "image/gif" && e.target.API == model.APIGemini:
		why = fmt.Sprintf("its type %q is none that this model takes", kind)
	case size > maxImage:
		why = fmt.Sprintf("it has %d bytes in base64, and %d are allowed", size, maxImage)
	case tooWide(i.Data):
		why = fmt.Sprintf("it is wider or higher than %d pixels", maxImageSide)
	}
	if why != "" {
		e.sizes = append(e.sizes, 0)
	} else if e.sizes = append(e.sizes, size); e.seen <= e.skip || len(i.Data) == 0 { // see model.FillImages
		why = "later images have taken its place"
	}
	if why != "" {
		return content{kind: model.TextBlock, text: "(an image is left out: " + why + ")"}
	}
	e.has.images = true
	return content{kind: model.ImageBlock, image: &model.Image{MediaType: kind, Data: i.Data}}
}

// sniff is the type of an image by its first bytes, "" for none that models take.
func sniff(data []byte) string {
	switch {
	case bytes.HasPrefix(data, []byte("\x89PNG\r\n\x1a\n")):
		return "image/png"
	case bytes.HasPrefix(data, []byte("\xff\xd8\xff")):
		return "image/jpeg"
	case bytes.HasPrefix(data, []byte("GIF8")):
		return "image/gif"
	case len(data) >= 12 && string(data[:4]) == "RIFF" && string(data[8:12]) == "WEBP":
		return "image/webp"
	}
	return ""
}

func tooWide(data []byte) bool {
	c, _, err := image.DecodeConfig(bytes.NewReader(data))
	return err == nil && (c.Width > maxImageSide || c.Height > maxImageSide)
}

// excess is how many of the first images have to be left out. When there are too many, so many are left out that the
// limit is half used: each time that this changes, the conversation is encoded anew and the provider's cache misses.
func (e *Encoder) excess() int {
	limit, heaviest := mostImages(e.target)
	shown, weight := len(e.sizes)-e.skip, 0
	for _, size := range e.sizes[min(e.skip, len(e.sizes)):] {
		weight += size
	}
	skip := e.skip
	if shown > limit || weight > heaviest {
		for skip < len(e.sizes)-1 && (shown > (limit+1)/2 || weight > heaviest/2) {
			weight -= e.sizes[skip]
			shown--
			skip++
		}
	}
	return skip
}

func appendBase64(dst, data []byte) []byte { return base64.StdEncoding.AppendEncode(dst, data) }
