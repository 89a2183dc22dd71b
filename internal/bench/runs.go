package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/plural"
	"github.com/pawl-dev/pawl/services/control"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	runs "github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
)

// storedRuns measures what a run that does nothing costs its database: a start, and a commit that ends it.
func storedRuns(ctx context.Context, r *run) (err error) {
	dir, err := r.newDir()
	if err != nil {
		return err
	}
	address, err := r.address(ctx, dir)
	if err != nil {
		return err
	}
	s, err := control.OpenStore(ctx, control.Database{Name: address}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	owner := ident.New()
	for _, clients := range []int{1, 16} {
		floor, err := r.commitFloor(ctx, clients)
		if err != nil {
			return err
		}
		f, err := load(ctx, clients, 0, r.lasts(), func(ctx context.Context, _ int) error {
			return storedRun(ctx, s, owner)
		})
		if err != nil {
			return err
		}
		row := Row{
			What:  "run that does nothing, in the database alone, " + plural.Of(clients, "client"),
			Floor: floor.rate(),
		}
		if clients == 1 {
			row.Floor = floor.p50()
		} else if r.database == Postgres {
			row.Goal = least(Rate, 2000)
		}
		r.add(f.row(row))
	}
	return nil
}

// storedRun starts a run and ends it.
func storedRun(ctx context.Context, s store.Store, owner string) error {
	n := runs.Start{
		ID: ident.New(), SubmissionID: ident.New(), Tenant: session.DefaultTenant, Workflow: "noop", Digest: "digest",
		Input: json.RawMessage(`{}`), InputHash: []byte("hash"), Owner: owner,
	}
	got, err := s.StartRun(ctx, n)
	if err != nil {
		return err
	}
	if got.Lease == nil {
		return fmt.Errorf("run %s has no owner", n.ID)
	}
	l := got.Lease
	_, err = s.Commit(ctx, lane.Commit{
		Fence: l.Fence, Kind: lane.KindRun, ID: ident.New(), EventHead: l.EventHead,
		Steps: []lane.Step{{
			LoopID: n.SubmissionID, SessionID: n.ID,
			Events: []event.Event{{
				Seq: l.EventHead + 1, Time: time.Now(), SubmissionID: n.SubmissionID, Type: event.Settled,
				Settlement: &event.Settlement{Outcome: string(lane.Completed)},
			}},
			End: &lane.Settlement{Outcome: lane.Completed, Data: json.RawMessage(`{}`)},
		}},
	})
	return err
}
