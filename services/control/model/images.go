package model

import (
	"encoding/base64"
	"slices"
)

// MaxRequestImages bounds the images of one request: bytes of all of them in base64. What is more is left out, from the
// oldest on.
const MaxRequestImages = 20 << 20

// FillImages is messages in which the images that a request can have are there with their data. get reads the data of
// one that is only named; nil is that it cannot be had, and it is left out. Neither the messages nor what get returns
// are changed.
func FillImages(messages []Message, get func(*Image) ([]byte, error)) ([]Message, error) {
	own, left := false, MaxRequestImages
	for n := len(messages) - 1; n >= 0 && left > 0; n-- {
		cloned := false
		for k := len(messages[n].Content) - 1; k >= 0; k-- {
			i := messages[n].Content[k].Image
			if i == nil {
				continue
			}
			if left -= base64.StdEncoding.EncodedLen(i.Bytes()); left < 0 || i.SHA256 == "" || len(i.Data) > 0 {
				continue
			}
			data, err := get(i)
			if err != nil {
				return nil, err
			}
			if !own {
				messages, own = slices.Clone(messages), true
			}
			if !cloned {
				messages[n].Content, cloned = slices.Clone(messages[n].Content), true
			}
			messages[n].Content[k].Image = &Image{MediaType: i.MediaType, Data: data, SHA256: i.SHA256, Size: i.Size}
		}
	}
	return messages, nil
}
