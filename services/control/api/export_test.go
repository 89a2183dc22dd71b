package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/deletion"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// noise is a PNG of more than one piece of an export.
func noise(t *testing.T) []byte {
	t.Helper()
	m := image.NewNRGBA(image.Rect(0, 0, 450, 450))
	r := rand.New(rand.NewPCG(1, 2))
	for i := range m.Pix {
		m.Pix[i] = byte(r.Uint32()) | 1
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// exported are the kinds of the items of an export in order, with their first letters, and its images, put together.
func exported(t *testing.T, f *fixture, id string) (kinds string, images map[string][]byte, inputs []string) {
	t.Helper()
	c := pawlv1.NewSessionServiceClient(f.as(t, auth.Token{Kind: auth.Client}))
	stream, err := c.ExportSession(t.Context(), &pawlv1.ExportSessionRequest{SessionId: id})
	if err != nil {
		t.Fatal(err)
	}
	images = map[string][]byte{}
	for {
		item, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return kinds, images, inputs
		}
		if err != nil {
			t.Fatal(err)
		}
		kinds += strings.TrimPrefix(fmt.Sprintf("%T", item.GetItem()), "*pawlv1.ExportSessionResponse_")[:2] + " "
		if p := item.GetImage(); p != nil {
			so := images[p.GetSha256()]
			if int64(len(so)) != p.GetOffset() || p.GetMediaType() != "image/png" || len(p.GetData()) > 1<<19 {
				t.Errorf("%d bytes at %d of %s after %d", len(p.GetData()), p.GetOffset(), p.GetMediaType(), len(so))
			}
			images[p.GetSha256()] = append(so, p.GetData()...)
		}
		if in := item.GetInput(); in != nil {
			inputs = append(inputs, in.GetMessage().GetContent()[0].GetText())
		}
	}
}

// An export has the images that are stored beside the conversation, each once and in pieces; that of a fork has those
// that it shares. It has the inputs of what has not begun.
func TestExportsAreWhole(t *testing.T) {
	shot := noise(t)
	sum := sha256.Sum256(shot)
	check := func(what string, got map[string][]byte) {
		t.Helper()
		if len(got) != 1 || !bytes.Equal(got[hex.EncodeToString(sum[:])], shot) {
			t.Errorf("%s has %d images, none of them whole", what, len(got))
		}
	}
	f := start(t, hello())
	k := session.Key{Tenant: session.DefaultTenant, Agent: "shell", Instance: "i"}
	var id string
	for range 2 {
		got, err := f.Submissions.Submit(t.Context(), submission.Input{
			Key: k, Message: "see", Images: [][]byte{shot, shot},
		})
		if err != nil {
			t.Fatal(err)
		}
		id = got.Submission.SessionID
		if _, err := f.Submissions.Wait(t.Context(), k.Tenant, got.Submission.ID, submission.Forever); err != nil {
			t.Fatal(err)
		}
	}
	kinds, images, _ := exported(t, f, id)
	check("the export", images)
	if kinds != "Se En Im Im En En En Su Su " {
		t.Errorf("exported %s", kinds)
	}
	fork := session.Fork{New: session.New{Key: k}, From: id, At: 2}
	fork.Key.Name = "fork"
	made, err := f.Store.ForkSession(t.Context(), fork)
	if err != nil {
		t.Fatal(err)
	}
	kinds, images, _ = exported(t, f, made.ID)
	check("the export of a fork", images)
	if kinds != "Se En Im Im En " {
		t.Errorf("exported of a fork %s", kinds)
	}

	f = start(t, nil) // what is submitted stays in the queue
	long := strings.Repeat("long ", submission.MaxListed)
	for _, message := range []string{long, "short"} {
		got, err := f.Submissions.Submit(t.Context(), submission.Input{
			Key: k, Message: message, Images: [][]byte{shot},
		})
		if err != nil {
			t.Fatal(err)
		}
		id = got.Submission.SessionID
	}
	kinds, images, inputs := exported(t, f, id)
	check("the export of what has not begun", images)
	if kinds != "Se Su In Im Im Su In " || len(inputs) != 2 || inputs[0] != "short" || inputs[1] != long {
		t.Errorf("exported of what has not begun %s and %d inputs", kinds, len(inputs))
	}
}

// Neither an export nor a list takes what is left of a session for all of it, if its rows go once it was found.
func TestWhatIsLeftOfASessionIsNotTheWhole(t *testing.T) {
	f := start(t, hello())
	c := pawlv1.NewSessionServiceClient(f.as(t, auth.Token{Kind: auth.Client}))
	for name, read := range map[string]func(id string) error{
		"a list": func(id string) error {
			_, err := c.ListEntries(t.Context(), &pawlv1.ListEntriesRequest{SessionId: id})
			return err
		},
		"an export": func(id string) error {
			stream, err := c.ExportSession(t.Context(), &pawlv1.ExportSessionRequest{SessionId: id})
			for err == nil {
				_, err = stream.Recv()
			}
			return err
		},
	} {
		var id string
		for range 3 {
			id = f.answered(t).GetSessionId()
		}
		gone := false
		f.found = func(one session.Session) {
			f.found = nil
			d, err := f.Store.BeginDeletion(context.Background(), deletion.Deletion{
				ID: ident.New(), Kind: deletion.Session, Key: one.Key, SessionID: one.ID,
			})
			if err != nil {
				t.Error(err)
			}
			if closed, err := f.Store.CloseSession(context.Background(), id); err != nil || !closed {
				t.Error(closed, err)
			}
			for range 2 {
				b, err := f.Store.PurgeSession(context.Background(), d.ID, time.Minute, 4)
				if gone = err == nil && !b.Done; !gone {
					t.Error(b, err)
				}
			}
		}
		if err := read(id); !gone || rpc.Reason(err) != "SESSION_NOT_FOUND" {
			t.Errorf("%s of what is left ends with %v", name, err)
		}
		for {
			d, err := f.Store.DeletionOf(t.Context(), session.DefaultTenant, id)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := f.Store.PurgeSession(t.Context(), d.ID, time.Minute, 100); err != nil || b.Done {
				break
			}
		}
	}
}

// A list tells who has asked for what has not begun, whatever the length of what was asked.
func TestListsTellWhoHasAsked(t *testing.T) {
	f := start(t, nil) // what is submitted stays in the queue
	c := pawlv1.NewSubmissionServiceClient(f.as(t, auth.Token{Kind: auth.Client, Name: "ann"}))
	id := ""
	for _, message := range []string{"short", strings.Repeat("long ", submission.MaxListed)} {
		got, err := c.Submit(t.Context(), &pawlv1.SubmitRequest{Key: key, Message: message})
		if err != nil {
			t.Fatal(err)
		}
		id = got.GetSubmission().GetSessionId()
	}
	page, err := c.ListSubmissions(t.Context(), &pawlv1.ListSubmissionsRequest{SessionId: id})
	if err != nil || len(page.GetSubmissions()) != 2 {
		t.Fatal(page, err)
	}
	for _, sub := range page.GetSubmissions() {
		if sub.GetAskedBy().GetName() != "ann" {
			t.Errorf("submission %d was asked for by %v", sub.GetSeq(), sub.GetAskedBy())
		}
	}
}
