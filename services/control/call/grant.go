package call

import "time"

// Waiting is a pending call that waits for a slot of its executor.
type Waiting struct {
	CallID    string
	LaneID    string
	Tenant    string
	CreatedAt time.Time // on the platform's clock
}

// Queued is pending calls of a lane, in order, that are to wait for slots of their executor.
type Queued struct {
	Executor, Tenant, LaneID string
	CallIDs                  []string
}

// Grant gives slots of an executor to pending calls. The replica that holds the executor's connection writes it.
type Grant struct {
	Executor string
	// ConnectionEpoch is the fence: of another connection than the executor's present one nothing is granted.
	ConnectionEpoch int64
	Journal         string // id of the executor's journal, see Call.Journal
	CallIDs         []string
}

// Granted is a call that was pending and is dispatched.
type Granted struct {
	CallID   string
	LaneID   string
	Dispatch int // the new number
}
