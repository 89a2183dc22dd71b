package storetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
)

func image(word string) session.Image {
	data := bytes.Repeat([]byte(word), 30_000)
	sum := sha256.Sum256(data)
	return session.Image{SHA256: hex.EncodeToString(sum[:]), Data: data}
}

// wantImages checks that a session has images, for every replica.
func wantImages(t tester, db DB, sessionID string, images ...session.Image) {
	t.Helper()
	for _, s := range []store.Store{db.Store, db.Second} {
		for _, i := range images {
			got, err := s.Image(ctx(t), sessionID, i.SHA256)
			if ok(t, err); !bytes.Equal(got, i.Data) {
				t.Errorf("the image has %d bytes, want %d", len(got), len(i.Data))
			}
		}
	}
}

func noImage(t tester, db DB, sessionID string, i session.Image) {
	t.Helper()
	_, err := db.Second.Image(ctx(t), sessionID, i.SHA256)
	refused(t, err, session.ErrNoImage)
}

// imageCases are of what messages name.
var imageCases = []testCase{
	{"come with an input, queued or begun, and once for each session", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		for _, name := range []string{"new", "new", "queued"} {
			a := admission(name)
			a.Images = []session.Image{image("a"), image("b"), image("a")}
			if a.Key.Name == "new" {
				a.Owner = owner
			}
			got := admit(t, db.Store, a)
			wantImages(t, db, got.Submission.SessionID, a.Images...)
			noImage(t, db, got.Submission.SessionID, image("c"))
			noImage(t, db, ident.New(), image("a"))
		}
		noImage(t, db, "no id", image("a"))
		noImage(t, db, ident.New(), session.Image{SHA256: "a\x00"})
	}},
	{"are not stored of an input that is refused", func(t *testing.T, db DB) {
		a := keyed("a", "key")
		id := admit(t, db.Store, a).Submission.SessionID
		a.ID, a.Images = ident.New(), []session.Image{image("a")}
		if got := admit(t, db.Second, a); !got.Replayed {
			t.Errorf("the replay: %+v", got)
		}
		noImage(t, db, id, image("a"))
	}},
	{"come with entries, of sub-agents too", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		child := h.withChild(t)
		own, below := h.step(2), h.stepOf(child, 1)
		own.Entries[0].Images = []session.Image{image("a")}
		own.Entries[1].Images = []session.Image{image("a"), image("b")}
		below.Entries[0].Images = []session.Image{image("c")}
		c := merge(own, below)
		h.commit(t, c)
		wantImages(t, db, h.session(), image("a"), image("b"))
		wantImages(t, db, child.SessionID, image("c"))
		noImage(t, db, h.session(), image("c"))
		stale := h.step(1)
		stale.lane.Fence.Epoch--
		stale.Entries[0].Images = []session.Image{image("d")}
		if _, err := db.Store.Commit(ctx(t), stale.commit()); err == nil {
			t.Error("a stale owner has written")
		}
		noImage(t, db, h.session(), image("d"))
	}},
	{"are a fork's, too, and go with the last that has them", func(t *testing.T, db DB) {
		a := admission("a")
		a.Owner, a.Images = live(t, db.Store), []session.Image{image("a"), image("b")}
		h := hold(db.Store, *admit(t, db.Store, a).Lease)
		h.commit(t, h.end(false))
		fork := forked(t, db.Store, h.session(), "b", 1)
		wantImages(t, db, fork.ID, a.Images...)
		purgeAll(t, db.Store, deleteNamed(t, db.Store, "a", h.session()), 2)
		wantImages(t, db, fork.ID, a.Images...)
		purgeAll(t, db.Second, deleteNamed(t, db.Store, "b", fork.ID), 2)
		none(db, `FROM images`)
	}},
}
