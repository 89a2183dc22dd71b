package client

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
)

// content is what a prompt has beside its message.
type content struct {
	images []string // paths here
	files  []string // paths in the workspace
	schema string   // path here, "" for none
}

func (c *content) flags(f *pflag.FlagSet) {
	f.StringArrayVar(&c.images, "image", nil,
		"`FILE`: image that belongs to the message: PNG, JPEG, GIF or WebP; may be given 10 times")
	f.StringArrayVar(&c.files, "file", nil,
		"`PATH`: file in the workspace that the message refers to; may be given 100 times")
	f.StringVar(&c.schema, "result-schema", "",
		"`FILE`: JSON Schema of the result that the agent has to end with; the result is printed as JSON")
}

// ofContent is how the control plane names a part of what a prompt has beside its message.
var ofContent = regexp.MustCompile(`^(?:(images|files)\[(\d+)\]|result_schema):`)

// named is an error about what was named on the command line as it was named there.
func (c *content) named(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	found := ofContent.FindStringSubmatch(text)
	if found == nil {
		return err
	}
	i, _ := strconv.Atoi(found[2]) // digits only, or none
	typed := ""
	switch {
	case found[1] == "images" && i < len(c.images):
		typed = "--image " + c.images[i]
	case found[1] == "files" && i < len(c.files):
		typed = "--file " + c.files[i]
	case found[1] == "" && c.schema != "":
		typed = "--result-schema " + c.schema
	default:
		return err
	}
	return cli.WithCode(errors.New(typed+":"+text[len(found[0]):]), cli.Code(err))
}

// add reads what is named and adds it to a request.
func (c *content) add(req *pawlv1.PromptRequest) error {
	req.Files = c.files
	for _, path := range c.images {
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("reading an image: %w", err)
		}
		req.Images = append(req.Images, &pawlv1.Image{Data: data})
	}
	if c.schema == "" {
		return nil
	}
	body, err := os.ReadFile(c.schema)
	if err != nil {
		return fmt.Errorf("reading the schema of the result: %w", err)
	}
	req.ResultSchema = &structpb.Struct{}
	if err := protojson.Unmarshal(body, req.ResultSchema); err != nil {
		why := strings.TrimLeft(strings.TrimPrefix(err.Error(), "proto:"), " \u00a0") // the library's space changes
		return fmt.Errorf("%s is no JSON Schema, which is an object: %s", c.schema, why)
	}
	return nil
}
