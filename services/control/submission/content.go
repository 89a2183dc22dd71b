package submission

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/picture"
	"github.com/pawl-dev/pawl/services/control/tool/result"
)

// Bounds of what an input has beside its message.
const (
	MaxImages = 10
	MaxImage  = 5 << 20 // bytes
	// MaxAllImages is in bytes. In base64 it is what providers take in one request.
	MaxAllImages = 15 << 20
	MaxFiles     = 100
	MaxPath      = 4096 // bytes
)

// Refusals of what an input has beside its message.
var (
	ErrImages = errs.New(errs.InvalidArgument, "IMAGES_INVALID", "the images cannot be used")
	ErrFiles  = errs.New(errs.InvalidArgument, "FILES_INVALID", "the files cannot be referred to")
)

// errSteer refuses what a submission cannot have that joins another one.
var errSteer = result.ErrSchema.With("result_schema: a submission that joins the running one has no result of its own")

func imagesInvalid(i int, format string, args ...any) error {
	field := "images"
	if i >= 0 {
		field = fmt.Sprintf("images[%d]", i)
	}
	return ErrImages.WithFacts(map[string]string{"field": field}, field+": "+format, args...)
}

func filesInvalid(i int, format string, args ...any) error {
	field := "files"
	if i >= 0 {
		field = fmt.Sprintf("files[%d]", i)
	}
	return ErrFiles.WithFacts(map[string]string{"field": field}, field+": "+format, args...)
}

// check looks at what takes little time to look at.
func (in *Input) check() error {
	switch blank := strings.TrimSpace(in.Message) == ""; {
	case len(in.Message) > MaxMessage:
		return ErrMessageTooLarge
	case blank && !in.MayBeBlank && !in.Options.Compact && len(in.Images) == 0 && in.Options.Skill == nil:
		return ErrMessageEmpty
	}
	if err := in.checkSkill(); err != nil {
		return err
	}
	if s := in.Options.ResultSchema; s != nil {
		if in.WhenBusy == Steer {
			return errSteer
		}
		if err := result.Check(s); err != nil {
			return err
		}
	}
	if err := in.checkImages(); err != nil {
		return err
	}
	if n := len(in.Files); n > MaxFiles {
		return filesInvalid(-1, "there are %d, and at most %d are allowed", n, MaxFiles)
	}
	for i, path := range in.Files {
		if err := ident.CheckText("a path", path, MaxPath); err != nil {
			return filesInvalid(i, "%v", err)
		}
	}
	return nil
}

func (in *Input) checkSkill() error {
	switch start := in.Options.Skill; {
	case start == nil:
		return nil
	case in.WhenBusy == Steer:
		return lane.ErrSkill.With(
			"what joins a running submission cannot start with a skill: let it queue, or interrupt")
	default:
		return start.Check()
	}
}

func (in *Input) checkImages() error {
	if n := len(in.Images); n > MaxImages {
		return imagesInvalid(-1, "there are %d, and at most %d are allowed", n, MaxImages)
	}
	all := 0
	for i, data := range in.Images {
		all += len(data)
		switch {
		case len(data) == 0:
			return imagesInvalid(i, "it has no data")
		case len(data) > MaxImage:
			return imagesInvalid(i, "it has %d bytes, and at most %d are allowed", len(data), MaxImage)
		case all > MaxAllImages:
			return imagesInvalid(i, "with it there are %d bytes of images, and at most %d are allowed in one message",
				all, MaxAllImages)
		case picture.Type(data) == "":
			return imagesInvalid(i, "it is neither PNG, JPEG, GIF nor WebP")
		}
	}
	return nil
}

// message is the input as models are told it. Images are decoded, and made smaller where they have to be: it may take
// some seconds.
func (in *Input) message(ctx context.Context) (model.Message, error) {
	m := model.Message{Role: model.User, From: in.By}
	switch blank, start := strings.TrimSpace(in.Message) == "", in.Options.Skill; {
	case blank && start != nil:
		m.Content = append(m.Content, model.Block{Type: model.TextBlock, Text: "Use the skill " + start.Name + "."})
	case !blank || len(in.Images) == 0:
		m.Content = append(m.Content, model.Block{Type: model.TextBlock, Text: in.Message})
	}
	for _, path := range in.Files {
		m.Content = append(m.Content, model.Block{Type: model.FileBlock, Text: path})
	}
	for i, data := range in.Images {
		fitted, err := picture.Fit(ctx, data)
		switch {
		case errors.Is(err, picture.ErrUnusable):
			return m, imagesInvalid(i, "%v", err)
		case err != nil:
			return m, err
		}
		m.Content = append(m.Content, model.Block{Type: model.ImageBlock, Image: &fitted.Image})
	}
	return m, nil
}

// hash is what a replay is recognised by: everything that the client has sent. Of an input that has nothing beside its
// message it is the message's, as receipts of old have it.
func (in *Input) hash() ([]byte, error) {
	message := sha256.Sum256([]byte(in.Message))
	options, err := in.Options.Encode()
	if in.WhenBusy != Queue {
		options += fmt.Sprintf("when busy: %d", in.WhenBusy)
	}
	if in.SessionID != "" {
		options += "session: " + in.SessionID
	}
	if err != nil || options == "" && len(in.Images)+len(in.Files) == 0 {
		return message[:], err
	}
	images := make([]string, len(in.Images))
	for i, data := range in.Images {
		sum := sha256.Sum256(data)
		images[i] = hex.EncodeToString(sum[:])
	}
	beside, err := json.Marshal([]any{options, images, in.Files})
	if err != nil {
		return nil, fmt.Errorf("encoding what an input has beside its message: %w", err)
	}
	all := sha256.Sum256(append(message[:], beside...))
	return all[:], nil
}
