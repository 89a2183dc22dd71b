package model

import (
	"errors"
	"testing"
)

// The latest images are filled in, as many as a request can have, and the conversation is left as it is.
func TestFillImages(t *testing.T) {
	const size = 5<<20 - 1000 // three of them, in base64
	named := func(word string) Message {
		return Message{Role: User, Content: []Block{
			{Type: TextBlock, Text: word}, {Type: ImageBlock, Image: &Image{SHA256: word, Size: size}},
		}}
	}
	all := []Message{named("a"), named("b"), {Role: Assistant}, named("c"), named("d")}
	var read []string
	got, err := FillImages(all, func(i *Image) ([]byte, error) {
		if read = append(read, i.SHA256); i.SHA256 == "c" {
			return nil, nil // it is gone
		}
		return []byte(i.SHA256), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range []string{"", "b", "", "", "d"} {
		if n == 2 {
			continue
		}
		if data := string(got[n].Content[1].Image.Data); data != want {
			t.Errorf("message %d has the image %q, want %q", n, data, want)
		}
		if len(all[n].Content[1].Image.Data) > 0 {
			t.Errorf("message %d of the conversation was changed", n)
		}
	}
	if len(read) != 3 {
		t.Errorf("read %q", read)
	}
	failed := errors.New("failed")
	if _, err := FillImages(all, func(*Image) ([]byte, error) { return nil, failed }); !errors.Is(err, failed) {
		t.Errorf("the error is %v", err)
	}
	if same, err := FillImages(all[2:3], nil); err != nil || &same[0] != &all[2] {
		t.Error("messages without images were copied")
	}
}
