package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// authorized is the header of the operator of a control plane.
func (s *server) authorized(t *testing.T) http.Header {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(s.data, "token"))
	if err != nil {
		t.Fatal(err)
	}
	return http.Header{"Authorization": {"Bearer " + strings.TrimSpace(string(token))}}
}

// A caller starts with a skill over HTTP, and hears of it in a stream of server-sent events.
func TestASkillOverHTTP(t *testing.T) {
	dir := t.TempDir()
	write(t, "---\nmodel: offline/shell\nskills: [triage]\n---\n", dir, "agents", "a.md")
	write(t, "---\nname: triage\ndescription: Sorts.\n---\nSort it.\n", dir, "skills", "triage", "SKILL.md")
	s := start(t, t.TempDir(), "--agents", filepath.Join(dir, "agents"))
	stream := func(body string) (status int, named map[string]string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
			s.here.HTTP+"/v1/agents/a/instances/i:prompt", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = s.authorized(t)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "text/event-stream")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		named = map[string]string{}
		name := ""
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			if text, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				name = text
			}
			if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				named[name] += text
			}
		}
		return res.StatusCode, named
	}
	status, events := stream(`{"message":"say: done","skill":{"name":"triage","args":{"n":1}}}`)
	var activated struct {
		SkillActivated struct {
			Name, Source, Digest string
			ByCaller             bool
		}
	}
	if err := json.Unmarshal([]byte(events["skill_activated"]), &activated); err != nil {
		t.Fatalf("%d, %v: %v", status, err, events)
	}
	if got := activated.SkillActivated; got.Name != "triage" || got.Source != "SOURCE_PROJECT" || !got.ByCaller ||
		got.Digest == "" || !strings.Contains(events["settled"], "OUTCOME_COMPLETED") {
		t.Errorf("%+v, settled with %s", got, events["settled"])
	}
	if _, events = stream(`{"message":"say: done","skill":{"name":"other"}}`); events["skill_activated"] != "" ||
		!strings.Contains(events["settled"], "SKILL_NOT_FOUND") {
		t.Errorf("another skill: %v", events)
	}
}

// operations is a socket on which operations are called, one after the other.
type operations struct {
	*testing.T
	conn *websocket.Conn
}

// call is what an operation answers, and why it failed, "" for nothing.
func (o operations) call(operation, request string) (messages []string, reason string) {
	o.Helper()
	frame := fmt.Sprintf(`{"id":"1","call":%q,"request":%s}`, operation, request)
	if err := o.conn.Write(o.Context(), websocket.MessageText, []byte(frame)); err != nil {
		o.Fatal(err)
	}
	for {
		_, text, err := o.conn.Read(o.Context())
		if err != nil {
			o.Fatal(err)
		}
		var a struct {
			ID      string
			Message json.RawMessage
			End     bool
			Error   *struct{ Reason, Message string }
		}
		if err := json.Unmarshal(text, &a); err != nil {
			o.Fatal(err)
		}
		switch {
		case a.Error != nil:
			return messages, a.Error.Reason + ": " + a.Error.Message
		case a.End:
			return messages, ""
		case a.ID != "":
			messages = append(messages, string(a.Message))
		}
	}
}

// An image that is stored beside the conversation is sent, named by what watches, and read, all on one socket.
func TestAnImageOnOneSocket(t *testing.T) {
	s := start(t, t.TempDir())
	m := image.NewNRGBA(image.Rect(0, 0, 200, 200))
	r := rand.New(rand.NewPCG(1, 2))
	for i := range m.Pix {
		m.Pix[i] = byte(r.Uint32()) | 1
	}
	var shot bytes.Buffer
	if err := png.Encode(&shot, m); err != nil {
		t.Fatal(err)
	}
	conn, _, err := websocket.Dial(t.Context(), s.here.HTTP+"/v1/watch",
		&websocket.DialOptions{HTTPHeader: s.authorized(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(4 << 20)
	o := operations{t, conn}
	prompt := func(data []byte) string {
		return fmt.Sprintf(`{"key":{"agent":"shell","instance":"i"},"message":"say: seen","images":[{"data":%q}]}`,
			base64.StdEncoding.EncodeToString(data))
	}
	messages, reason := o.call("prompt", prompt(shot.Bytes()))
	all := strings.Join(messages, "\n")
	id := regexp.MustCompile(`"sessionId": ?"([^"]+)"`).FindStringSubmatch(all)
	sha := regexp.MustCompile(`"sha256": ?"([^"]+)"`).FindStringSubmatch(all)
	if reason != "" || id == nil || sha == nil || !strings.Contains(all, "OUTCOME_COMPLETED") || len(all) > shot.Len() {
		t.Fatalf("%s: %.300s", reason, all)
	}
	messages, reason = o.call("getImage", fmt.Sprintf(`{"sessionId":%q,"sha256":%q}`, id[1], sha[1]))
	var got struct{ Image struct{ Data []byte } }
	if len(messages) != 1 || json.Unmarshal([]byte(messages[0]), &got) != nil ||
		!bytes.Equal(got.Image.Data, shot.Bytes()) {
		t.Errorf("the image: %s, %d messages", reason, len(messages))
	}
	if _, reason = o.call("prompt", prompt([]byte("%PDF"))); !strings.HasPrefix(reason, "IMAGES_INVALID: images[0]: ") {
		t.Errorf("of no image is said %q", reason)
	}
	frame := []byte(prompt(bytes.Repeat([]byte{1}, 1<<20)))
	if err := conn.Write(t.Context(), websocket.MessageText, frame); err == nil {
		if _, code := last(t.Context(), conn); code != websocket.StatusMessageTooBig {
			t.Errorf("a message that is too large ended with %v", code)
		}
	}
}
