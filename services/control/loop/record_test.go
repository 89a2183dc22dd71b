package loop

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

// saying is a loop whose conversation holds these inputs.
func saying(t *testing.T, r *Runner, texts ...string) *loop {
	t.Helper()
	l := &loop{tree: &tree{Runner: r}, conversation: &conversation{}}
	for i, text := range texts {
		if err := l.conversation.add(session.Entry{Seq: int64(i) + 1, Message: model.Message{
			Role: model.User, Content: []model.Block{{Type: model.TextBlock, Text: text}},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// A request has the same digest wherever it is made, and another one when anything in it is another.
func TestDigestOfARequest(t *testing.T) {
	r := &Runner{prefixes: newPrefixes()}
	req := model.Request{System: "be brief", Tools: []model.Tool{{Name: "a"}}}
	digest := func(req model.Request, texts ...string) string {
		return string(saying(t, r, texts...).record(req, answer{}, "").Request)
	}
	same := digest(req, "one", "two")
	if digest(req, "one", "two") != same {
		t.Error("the same request has two digests")
	}
	other := req
	other.System = "be long"
	for name, d := range map[string]string{
		"an entry more": digest(req, "one", "two", "three"), "another order": digest(req, "two", "one"),
		"another prefix": digest(other, "one", "two"),
	} {
		if d == same {
			t.Errorf("%s has the same digest", name)
		}
	}
}

// What is digested of a message is what is stored of it: one that was stored is not encoded again, which could give
// other bytes, as with an input that its client has encoded.
func TestStoredMessageIsDigestedAsItIsStored(t *testing.T) {
	message := model.Message{Role: model.User, Content: []model.Block{{Type: model.TextBlock, Text: "one"}}}
	written := session.Entry{Seq: 1, Message: message}
	body, err := written.Encode()
	if err != nil {
		t.Fatal(err)
	}
	digest := func(e session.Entry) string {
		c := &conversation{}
		if err := c.add(e); err != nil {
			t.Fatal(err)
		}
		if c.last.Body != nil {
			t.Error("a conversation keeps what it has digested")
		}
		return string(c.digest[:])
	}
	made := digest(session.Entry{Seq: 1, Message: message})
	if digest(written) != made || digest(session.Entry{Seq: 1, Message: message, Body: body}) != made {
		t.Error("the same message has two digests")
	}
	if digest(session.Entry{Seq: 1, Message: message, Body: append(body, ' ')}) == made {
		t.Error("another body has the same digest")
	}
}

// The text of a prefix is stored once, and again after a while, should it have been deleted with who used it last.
func TestPrefixIsStoredOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Runner{prefixes: newPrefixes()}
		record := func() *lane.Turn {
			turn := saying(t, r, "one").record(model.Request{System: "be brief"}, answer{}, "")
			r.prefixes.keep(turn)
			return turn
		}
		if first, second := record(), record(); first.PrefixBody == nil || second.PrefixBody != nil {
			t.Errorf("stored %q, and then %q", first.PrefixBody, second.PrefixBody)
		}
		time.Sleep(2 * storeAgain)
		if record().PrefixBody == nil {
			t.Error("it is never stored again")
		}
	})
}

// Loops of one agent have one prefix, which is made once: its text is some ten kilobytes of schemas.
func TestAPrefixIsMadeOnce(t *testing.T) {
	request := func(system, description string) model.Request {
		return model.Request{System: system, Tools: []model.Tool{{
			Name: "bash", Description: description, Schema: []byte(`{"type":"object"}`),
		}}}
	}
	s := newPrefixes()
	first := s.of(request("be brief", "runs"))
	if s.of(request("be brief", "runs")) != first {
		t.Error("the same prefix was made twice")
	}
	for _, other := range []model.Request{
		request("be long", "runs"), request("be brief", "walks"),
		{System: "be brief"},
	} {
		if p := s.of(other); p.digest == first.digest {
			t.Errorf("%+v has the prefix of another request", other)
		}
	}
	for n := range 10 * maxRecent {
		s.of(request(fmt.Sprint("agent ", n), "runs"))
	}
	if len(s.recent) != maxRecent {
		t.Errorf("%d texts are kept", len(s.recent))
	}
	if again := s.of(request("be brief", "runs")); again == first || again.digest != first.digest {
		t.Error("a prefix that was forgotten is not made again as it was")
	}
}
