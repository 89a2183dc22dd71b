package session

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/model"
)

// MaxInline is how many bytes of images a message has in itself. What is more is stored beside the conversation: see
// Detach.
const MaxInline = 64 << 10

// HashSize is that of the hash that names an image, in bytes.
const HashSize = sha256.Size

// ErrNoImage says that a session has no such image.
var ErrNoImage = errs.New(errs.NotFound, "IMAGE_NOT_FOUND", "the session has no such image")

// Image is what is stored beside a conversation for a message that names it.
type Image struct {
	SHA256 string // hex
	Data   []byte
}

// Detach takes from a message the images that are not to stand in it. The message names them by their hash. The one
// that was given is not changed.
func Detach(m model.Message) (model.Message, []Image) {
	var images []Image
	inline, own := 0, false
	for i := range m.Content {
		of := m.Content[i].Image
		if of == nil || len(of.Data) == 0 {
			continue
		}
		if inline += len(of.Data); inline <= MaxInline {
			continue
		}
		inline -= len(of.Data)
		if !own {
			m.Content, own = slices.Clone(m.Content), true
		}
		sum := sha256.Sum256(of.Data)
		image := Image{SHA256: hex.EncodeToString(sum[:]), Data: of.Data}
		m.Content[i].Image = &model.Image{MediaType: of.MediaType, SHA256: image.SHA256, Size: len(of.Data)}
		images = append(images, image)
	}
	return m, images
}
