package link

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/wake"
)

const (
	// factsEvery is how often the rows of executors are compared with the connections here.
	factsEvery = 5 * time.Second
	// begunEvery is how often it is written at most how many calls an executor has begun.
	begunEvery = 250 * time.Millisecond
	// writeLimit bounds the time that the database has for one piece of such work.
	writeLimit = 5 * time.Second
)

// Run keeps the rows of executors true of the connections here, until ctx ends. Each fact is written at once when it
// comes about. A write that fails is not remembered: Run reads the rows and writes what differs from the connections,
// so a lost write heals within factsEvery of the database's recovery. A replica that dies takes its facts with it: an
// executor whose replica has no lease counts as away.
func (s *Server) Run(ctx context.Context) error {
	for range await.Ticks(ctx, factsEvery) {
		contain.Run(s.deps.Log, "comparing the executors' rows with their connections", func() {
			if err := s.compareFleet(ctx); err != nil && ctx.Err() == nil {
				s.deps.Log.Warn("comparing the executors' rows with their connections failed, trying again", "error",
					err)
			}
		})
	}
	return nil
}

// compareFleet reads all rows once and acts on each that differs. It reads nothing while no executor is connected here
// and the rows have said so since the last one was.
func (s *Server) compareFleet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*writeLimit)
	defer cancel()
	// Taken before the rows are read: each connection has its row by then.
	s.mu.Lock()
	here, opens, none := maps.Clone(s.conns), s.opens, len(s.conns)+len(s.opening) == 0
	compared := s.compared
	s.mu.Unlock()
	if none && opens == compared {
		return nil // no row can say that an executor is connected here
	}
	rows, err := s.deps.Fleet.ListExecutors(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, row := range rows {
		if c := here[row.ID]; c != nil {
			failed = append(failed, c.compareFacts(ctx, row))
		} else {
			failed = append(failed, s.compareAway(ctx, row))
		}
		delete(here, row.ID)
	}
	for _, c := range here { // their rows were deleted
		c.end(ErrSuperseded)
	}
	err = errors.Join(failed...)
	if err == nil && none {
		s.mu.Lock()
		s.compared = opens
		s.mu.Unlock()
	}
	return err
}

// compareAway handles the row of an executor that was not connected here before the row was read. If it says that the
// executor is, the end of that connection was not recorded, or the answer that it was made was lost.
func (s *Server) compareAway(ctx context.Context, row fleet.Executor) error {
	if !row.Connected() || row.Replica != s.deps.Replica() || s.mayBeHere(row.ID) {
		return nil
	}
	if err := s.deps.Fleet.Disconnect(ctx, row.ID, row.ConnectionEpoch, row.Journal.Begun); err != nil {
		return err
	}
	s.deps.Log.Info("an executor counted as connected here and is not, which is recorded now", "executor_id", row.ID,
		"connection_epoch", row.ConnectionEpoch)
	s.deps.Bus.Publish(wake.Executor(row.ID))
	return nil
}

// compareFacts handles the row of the connection's executor. It ends a connection that is not the executor's present
// one: the replica that has that one may not have reached this one to ask.
func (c *connection) compareFacts(ctx context.Context, row fleet.Executor) error {
	id, epoch := c.executor.ID, c.executor.ConnectionEpoch
	if row.ConnectionEpoch != epoch || row.Replica != c.executor.Replica {
		c.end(ErrSuperseded)
		return nil
	}
	if c.begun.Load() > row.Journal.Begun {
		if err := c.setBegun(ctx); err != nil {
			return err
		}
	}
	if c.isDraining() && !row.Draining {
		return c.server.deps.Fleet.SetDraining(ctx, id, epoch)
	}
	return nil
}

// recordBegun records how many calls the executor has begun, soon after it says so: a copy of its journal is known by
// having begun fewer, and when this replica dies nobody else has heard of them.
func (c *connection) recordBegun() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.begins:
		}
		c.write(c.ctx, "how many calls it has begun", c.setBegun)
		if await.Sleep(c.ctx, begunEvery) != nil {
			return
		}
	}
}

func (c *connection) setBegun(ctx context.Context) error {
	_, err := c.server.deps.Fleet.SetBegun(ctx, c.executor.ID, c.executor.ConnectionEpoch, c.begun.Load())
	return err
}

// drains records that the executor takes nothing new.
func (c *connection) drains(ctx context.Context) {
	c.mu.Lock()
	c.draining = true
	c.mu.Unlock()
	c.attach()
	if c.grants != nil {
		c.grants.Drain()
	}
	c.write(ctx, "that it drains", func(ctx context.Context) error {
		return c.server.deps.Fleet.SetDraining(ctx, c.executor.ID, c.executor.ConnectionEpoch)
	})
}

func (c *connection) isDraining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining
}

// ended records the end of the connection.
func (c *connection) ended(ctx context.Context) {
	c.write(ctx, "the end of its connection", func(ctx context.Context) error {
		return c.server.deps.Fleet.Disconnect(ctx, c.executor.ID, c.executor.ConnectionEpoch, c.begun.Load())
	})
	c.server.deps.Bus.Publish(wake.Executor(c.executor.ID))
}

// write records a fact about the connection now. If that fails, Run makes up for it.
func (c *connection) write(ctx context.Context, fact string, f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	if err := contain.Do(func() error { return f(ctx) }); err != nil {
		c.server.deps.Log.Warn("recording a fact about an executor failed, trying again", "fact", fact,
			"executor_id", c.executor.ID, "connection_epoch", c.executor.ConnectionEpoch, "error", err)
	}
}
