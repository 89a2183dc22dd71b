// Package storetest is the contract that every store passes.
//
// Each test opens a database of its own. Ids of replicas, sessions, submissions and tokens are UUIDs. Nothing here
// sleeps: time passes when a test calls DB.Advance.
package storetest

import (
	"strings"
	"sync"
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
	// Count is what a query of a number finds that both databases take.
	Count func(sql string) int
	// Logged is what Store has told its log.
	Logged func() string
}

// Run runs the contract against the databases that open makes: an empty one for every call, gone when the test ends.
func Run(t *testing.T, open func(t *testing.T) DB) {
	shared := sync.OnceValue(func() DB { return open(t) })
	for _, suite := range suites {
		t.Run(suite.name, func(t *testing.T) {
			if suite.shared {
				for _, c := range suite.cases {
					t.Run(c.name, func(t *testing.T) { c.run(t, shared()) })
					empty(t, shared())
				}
				return
			}
			for _, c := range suite.cases {
				t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
			}
		})
	}
}

// empty deletes what the cases of runs store: to make a database takes longer than most of them.
func empty(t *testing.T, db DB) {
	var all strings.Builder
	for _, table := range []string{
		"runs", "run_steps", "run_signals", "run_blobs", "conc_keys", "schedules", "lanes", "sessions", "submissions",
		"receipts", "segments", "entries", "deletions", "definitions",
	} {
		all.WriteString(`DELETE FROM ` + table + `;`)
	}
	db.Exec(all.String())
	moveMail(t, db.Store)
}

type suite struct {
	name   string
	cases  []testCase
	shared bool // the cases of all that are shared take turns at one database, which is emptied after each
}

type testCase struct {
	name string
	run  func(t *testing.T, db DB)
}

// suites in the order in which a new store would want to pass them.
var suites = []suite{
	{"admit", admitCases, false},
	{"an admission", pinnedCases, false},
	{"claim", claimCases, false},
	{"commit", commitCases, false},
	{"settle", settleCases, false},
	{"images", imageCases, false},
	{"fence", fenceCases(), false},
	{"busy", busyCases, false},
	{"abort", abortCases, false},
	{"take over", takeOverCases, false},
	{"end", endCases, false},
	{"release", releaseCases, false},
	{"park", parkCases, false},
	{"loops", loopCases, false},
	{"damaged lanes", damagedLaneCases, false},
	{"receipts", receiptCases, false},
	{"replicas", replicaCases, false},
	{"clock", clockCases, false},
	{"calls", callCases, false},
	{"grants", grantCases, false},
	{"approvals", approvalCases, false},
	{"events", eventCases, false},
	{"sessions", sessionCases, false},
	{"sessions that callers make", makingCases, false},
	{"executors", executorCases, false},
	{"tokens", tokenCases, false},
	{"the audit log", auditCases, false},
	{"definitions", definitionCases, false},
	{"damage", damageCases, false},
	{"retention", retentionCases, false},
	{"pauses of models", pauseCases, false},
	{"deletions", append(idleDeletionCases, deletionCases...), false},
	{"runs", runCases, true},
	{"keys of runs", keyCases, true},
	{"steps of runs", stepCases, true},
	{"signals", signalCases, true},
	{"runs again", againCases, true},
	{"who rests on runs", restCases, true},
	{"schedules", scheduleCases, true},
	{"runs that go", runEndCases, true},
	{"tenants", tenantCases, false},
	{"model", modelCases, false},
	{"chaos", chaosCases, false},
}
