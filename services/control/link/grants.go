package link

import (
	"context"
	"errors"

	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/link/peer"
)

// How the owner of a lane gets slots for the calls of a turn, which go to one executor:
//
//	if TryDispatch(executor, call)  insert the call as dispatched, and send Execute after the commit;
//	                                Freed if the commit fails
//	else                            insert it as pending at this executor, and Wait after the commit
//	Granted                         the call is dispatched: send Execute
//	Freed                           after each commit in which calls of the executor have ended
//
// Wait and Granted are hints. A Wait that is lost is made up for when the executor connects, and every compareEvery; an
// owner that cannot get it through leaves the lane to other replicas. An owner that was not told of a grant finds it in
// the rows: it reads those of its pending calls every few seconds.

// TryDispatch takes a slot of an executor that is connected here for a call that is to be inserted as dispatched. The
// executor is as it connected. False when it is connected elsewhere, no slot is free, or others wait.
func (s *Server) TryDispatch(executor, callID string) (fleet.Executor, bool) {
	c := s.connection(executor)
	if c == nil || c.grants == nil || !c.grants.TryDispatch(callID) {
		return fleet.Executor{}, false
	}
	return c.executor, true
}

// Wait queues pending calls for slots of their executor, here or at the replica that it is connected to. An error says
// that the executor's row or that replica could not be reached. Of an executor that is connected nowhere nothing is
// said: the rows are read when it connects.
func (s *Server) Wait(ctx context.Context, w call.Queued) error {
	if s.WaitHere(w) {
		return nil
	}
	err := s.places.reach(ctx, w.Executor, func(addr string) error { return s.deps.Peers.Wait(ctx, addr, w) })
	if errors.Is(rpc.FromStatus(err), peer.ErrNotHere) {
		return nil
	}
	return err
}

// WaitHere implements peer.Local.
func (s *Server) WaitHere(w call.Queued) bool {
	c := s.connection(w.Executor)
	if c == nil {
		return false
	}
	if c.grants != nil {
		c.grants.Wait(w)
	}
	return true
}

// Freed says that calls of an executor have ended, or were not inserted after TryDispatch. If it is connected to
// another replica, that one hears of the end with ResultAck, or by comparing.
func (s *Server) Freed(executor string, callIDs ...string) {
	if c := s.connection(executor); c != nil {
		c.freed(callIDs...)
	}
}

func (c *connection) freed(callIDs ...string) {
	if c.grants != nil {
		c.grants.Freed(callIDs...)
	}
}

// newGranter makes the connection's Granter, nil without rows.
func (c *connection) newGranter() *fleet.Granter {
	rows := c.server.deps.Grants
	if rows == nil {
		return nil
	}
	return fleet.NewGranter(rows, c.executor, c.granted, c.server.deps.Log)
}

// granted tells the owner of a call, here or elsewhere, that it has a slot.
func (c *connection) granted(g call.Granted) {
	if !c.server.deps.Granted(c.executor, g) {
		c.server.changed(g.LaneID)
	}
}

// dispatched reads the calls that are dispatched to the executor, and corrects by them what its Granter knows.
func (c *connection) dispatched(ctx context.Context) ([]call.Call, error) {
	if c.grants == nil {
		return c.server.deps.Calls.DispatchedCalls(ctx, c.executor.ID)
	}
	return c.grants.Recount(ctx)
}
