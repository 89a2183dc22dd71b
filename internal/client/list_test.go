package client

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

// A list shows as much as its limit, asks for no more than it shows, and says when there is more.
func TestListsAreLimited(t *testing.T) {
	for _, test := range []struct {
		limit, have int
		shown       int
		asked       string
		more        bool
	}{
		{limit: 100, have: 3, shown: 3, asked: "[100]"},
		{limit: 100, have: 100, shown: 100, asked: "[100]"},
		{limit: 100, have: 101, shown: 100, asked: "[100]", more: true},
		{limit: 1500, have: 1500, shown: 1500, asked: "[1000 500]"},
		{limit: 1500, have: 4000, shown: 1500, asked: "[1000 500]", more: true},
		{limit: 0, have: 2500, shown: 2500, asked: "[1000 1000 1000]"},
	} {
		for _, format := range []string{"table", "json"} {
			var asked []int32
			at := 0
			l := listing[*pawlv1.Session]{
				head: "ID",
				page: func(size int32, token string) (items []*pawlv1.Session, next string, err error) {
					if want := fmt.Sprint(at); token != want && (at > 0 || token != "") {
						t.Errorf("the page after %q is asked for, want %q", token, want)
					}
					asked = append(asked, size)
					for range min(int(size), test.have-at) {
						at++
						items = append(items, &pawlv1.Session{SessionId: fmt.Sprintf("s%d.", at)})
					}
					if at < test.have {
						next = fmt.Sprint(at)
					}
					return items, next, nil
				},
				row: func(s *pawlv1.Session) []string { return []string{s.GetSessionId()} },
			}
			var out, said bytes.Buffer
			c := &cobra.Command{}
			c.SetOut(&out)
			c.SetErr(&said)
			if err := l.print(c, &connection{output: format, limit: test.limit}); err != nil {
				t.Fatal(err)
			}
			shown := strings.Count(out.String(), ".\n") + strings.Count(out.String(), `.",`)
			if shown != test.shown || fmt.Sprint(asked) != test.asked {
				t.Errorf("%s, limit %d of %d: %d are shown, pages of %v are asked for", format, test.limit, test.have,
					shown, asked)
			}
			want := ""
			if test.more {
				want = fmt.Sprintf("there are more than these %d: ", test.limit)
			}
			if !strings.HasPrefix(said.String(), want) || want == "" && said.Len() > 0 {
				t.Errorf("%s, limit %d of %d: %q is said", format, test.limit, test.have, &said)
			}
		}
	}
}

// A session's name can be read back, whatever its instance is called.
func TestNamesOfSessions(t *testing.T) {
	for text, key := range map[string][3]string{
		"a/i": {"a", "i", ""}, "a/i/s": {"a", "i", "s"}, "a/i/s/t": {"a", "i", "s/t"}, "a/b c": {"a", "b c", ""},
		"a/b%2Fc d": {"a", "b/c d", ""}, "a/b%2Fc/s%2F": {"a", "b/c", "s%2F"}, "a/100%25": {"a", "100%", ""},
		"a/%252F": {"a", "%2F", ""}, "a/%2F": {"a", "/", ""},
	} {
		want := &pawlv1.SessionKey{Agent: key[0], Instance: key[1], Session: key[2]}
		if got := sessionKey(text); !proto.Equal(got, want) {
			t.Errorf("%s is read as %v, want %v", text, got, want)
		}
		if got := keyText(want); got != text {
			t.Errorf("%v is written as %s, want %s", want, got, text)
		}
	}
	if got := sessionKey("a/100%"); got.GetInstance() != "100%" {
		t.Errorf("a %% that stands for nothing else: %v", got)
	}
}

// Of a session that is gone it is said that its name is, too.
func TestNamesOfDeletions(t *testing.T) {
	gone := &pawlv1.DeletedSession{SessionId: "0199", Agent: "shell"}
	open := &pawlv1.DeletedSession{SessionId: "0199", Agent: "shell", Instance: "i", Session: "default"}
	for want, s := range map[string]*pawlv1.DeletedSession{
		"session 0199 of shell, whose name is deleted too": gone, "session shell/i": open,
	} {
		if got := deletedText(&pawlv1.Deletion{Target: &pawlv1.Deletion_Session{Session: s}}); got != want {
			t.Errorf("%v: %q, want %q", s, got, want)
		}
	}
}

// One line more is not some lines more.
func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{"a": "a", "a\nb": "a … +1 line", "a\nb\nc": "a … +2 lines"} {
		if got := oneLine(text, 50); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
