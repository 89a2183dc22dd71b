// Package storetest is the contract that every store passes.
//
// Each test opens a database of its own. Ids of replicas, sessions, submissions and tokens are UUIDs. Nothing here
// sleeps: time passes when a test calls DB.Advance.
package storetest

import (
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/store"
)

// DB is a database under test.
type DB struct {
	Store store.Store
	// Second is another replica's handle on the same database. A database of one process gives the same one again.
	Second store.Store
	// Advance lets time pass.
	Advance func(d time.Duration)
	// Jump sets the clock of the database's machine forwards, or back, by d. No time passes.
	Jump func(d time.Duration)
	// Start is a replica that starts now: its handle on the database. A database of one process gives the same again.
	Start func() store.Store
	// Forget deletes what is stored of a lane, but for its receipts.
	Forget func(laneID string)
	// Exec runs a statement that both databases take.
	Exec func(sql string)
	// Logged is what Store has told its log.
	Logged func() string
}

// Run runs the contract against the databases that open makes: an empty one for every call, gone when the test ends.
func Run(t *testing.T, open func(t *testing.T) DB) {
	for _, suite := range suites {
		t.Run(suite.name, func(t *testing.T) {
			for _, c := range suite.cases {
				t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
			}
		})
	}
}

type suite struct {
	name  string
	cases []testCase
}

type testCase struct {
	name string
	run  func(t *testing.T, db DB)
}

// suites in the order in which a new store would want to pass them.
var suites = []suite{
	{"admit", admitCases},
	{"an admission", pinnedCases},
	{"claim", claimCases},
	{"commit", commitCases},
	{"settle", settleCases},
	{"images", imageCases},
	{"fence", fenceCases()},
	{"busy", busyCases},
	{"abort", abortCases},
	{"take over", takeOverCases},
	{"end", endCases},
	{"release", releaseCases},
	{"park", parkCases},
	{"loops", loopCases},
	{"damaged lanes", damagedLaneCases},
	{"receipts", receiptCases},
	{"replicas", replicaCases},
	{"clock", clockCases},
	{"calls", callCases},
	{"grants", grantCases},
	{"approvals", approvalCases},
	{"events", eventCases},
	{"sessions", sessionCases},
	{"sessions that callers make", makingCases},
	{"executors", executorCases},
	{"tokens", tokenCases},
	{"the audit log", auditCases},
	{"definitions", definitionCases},
	{"damage", damageCases},
	{"retention", retentionCases},
	{"pauses of models", pauseCases},
	{"deletions", append(idleDeletionCases, deletionCases...)},
	{"tenants", tenantCases},
	{"model", modelCases},
	{"chaos", chaosCases},
}
