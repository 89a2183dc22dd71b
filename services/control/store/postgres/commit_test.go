package postgres_test

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
)

// TestAnyMessageCanSettle, also one that no text column takes.
func TestAnyMessageCanSettle(t *testing.T) {
	s := open(t, migrated.URL(t), postgres.Options{})
	l := start(t, s, "a", live(t, s))
	c := settling(l)
	c.Steps[0].End.Outcome, c.Steps[0].End.Message = lane.Failed, "bad \x00 byte \xff"
	if _, err := s.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	got, err := s.GetSubmission(t.Context(), l.Root().Key.Tenant, l.Root().ID)
	if err != nil || got.Message != "bad \uFFFD byte \uFFFD" {
		t.Errorf("message %q, %v", got.Message, err)
	}
}

// TestBatchAnswersEachOperation commits one batch of which some are stale, some repeated and some new.
func TestBatchAnswersEachOperation(t *testing.T) {
	s := open(t, migrated.URL(t), postgres.Options{})
	owner := live(t, s)
	var leases []*lane.Lease
	var commits []lane.Commit
	for i := range 12 {
		l := start(t, s, fmt.Sprint(i), owner)
		c := step(l)
		switch i % 4 {
		case 1:
			c.Fence.Epoch--
		case 2:
			if _, err := s.Commit(t.Context(), c); err != nil { // its answer was lost
				t.Fatal(err)
			}
		case 3:
			c.Steps[0].Outcomes = []call.Outcome{{CallID: "nowhere", State: call.Done}}
		}
		leases, commits = append(leases, l), append(commits, c)
	}
	_, errs := s.CommitTogether(t.Context(), commits)
	for i, l := range leases {
		want, n := error(nil), int64(2)
		switch i % 4 {
		case 1:
			want, n = lane.ErrFenced, 1
		case 3:
			want, n = call.ErrNotFound, 1
		}
		refused(t, errs[i], want)
		dense(t, s, l.Fence.LaneID, n)
	}
}

// TestBodiesStayInTheirRows keeps bodies of a few kilobytes out of tables of their own, which cost a tenth more log.
func TestBodiesStayInTheirRows(t *testing.T) {
	address := migrated.URL(t)
	s := open(t, address, postgres.Options{})
	l := start(t, s, "a", live(t, s))
	c := step(l)
	text := make([]byte, 3000)
	for i := range text {
		text[i] = byte(rand.N(256)) // nothing that the database could compress
	}
	c.Steps[0].Entries[0].Message.Content = []model.Block{
		{Type: model.TextBlock, Text: base64.StdEncoding.EncodeToString(text)},
	}
	if _, err := s.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	var size int64
	if err := raw(t, address).QueryRow(t.Context(), `SELECT sum(pg_relation_size(reltoastrelid)) FROM pg_class
		WHERE oid IN ('entries'::regclass, 'segments'::regclass)`).Scan(&size); err != nil || size > 0 {
		t.Errorf("%d bytes of bodies are outside of their rows, %v", size, err)
	}
}
