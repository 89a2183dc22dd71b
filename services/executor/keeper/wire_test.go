package keeper

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// What a keeper of an older version reads and writes. A change here needs a new protocol number, unless it only adds.
func TestWireFormat(t *testing.T) {
	for want, m := range map[string]*message{
		`{"kind":"hello","hello":{"proto":1,"min_proto":1,"version":"v","pid":2,"keeper":"k"}}`: {
			Kind:  kindHello,
			Hello: &hello{1, 1, "v", 2, "k"},
		},
		`{"kind":"start","seq":1,"id":"a","spec":{"argv":["eA=="],"dir":"Lw==","env":["QT1i"],"timeout":5,"keep":true}}`: {
			Kind: kindStart, Seq: 1, ID: "a",
			Spec: &Spec{
				Argv: [][]byte{[]byte("x")}, Dir: []byte("/"), Env: [][]byte{[]byte("A=b")}, Timeout: 5,
				Keep: true,
			},
		},
		`{"kind":"kill","seq":2,"id":"a","grace":1000000000}`: {
			Kind: kindKill, Seq: 2,
			ID: "a", Grace: time.Second,
		},
		`{"kind":"reply","seq":3,"err":{"reason":"UNKNOWN_EXEC","text":"no such command"}}`: {
			Kind: kindReply, Seq: 3,
			Err: toWire(sandbox.ErrUnknownExec),
		},
		`{"kind":"event","state":{"id":"a","stdout":4,"end":{"code":137,"signal":9,"started":1,"ended":2}}}`: {
			Kind: kindEvent, State: &state{ID: "a", Stdout: 4, End: &end{Code: 137, Signal: 9, Started: 1, Ended: 2}},
		},
		`{"kind":"event","state":{"id":"a","end":{"code":0,"confirmed":true,"leftovers":2,"started":1,"ended":2}}}`: {
			Kind: kindEvent, State: &state{ID: "a", End: &end{Confirmed: true, Leftovers: 2, Started: 1, Ended: 2}},
		},
	} {
		if got, err := json.Marshal(m); err != nil || string(got) != want {
			t.Errorf("got %s, want %s", got, want)
		}
		var buf bytes.Buffer
		if err := writeMessage(&buf, m); err != nil {
			t.Fatal(err)
		}
		back, err := readMessage(&buf)
		if got, _ := json.Marshal(back); err != nil || string(got) != want {
			t.Errorf("back: %s, %v", got, err)
		}
	}
}

func TestErrorsKeepTheirReason(t *testing.T) {
	for _, e := range reasons {
		if got := toWire(e.With("text")).err(); !errors.Is(got, e) || got.Error() != "text" {
			t.Errorf("%s: %v", e.Reason(), got)
		}
	}
}

func FuzzReadMessage(f *testing.F) {
	var buf bytes.Buffer
	if err := writeMessage(&buf, &message{Kind: kindForget, ID: "a"}); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := readMessage(bytes.NewReader(b)); (m == nil) == (err == nil) {
			t.Fatal(m, err)
		}
	})
}
