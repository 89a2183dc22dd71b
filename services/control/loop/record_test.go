package loop

import (
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
