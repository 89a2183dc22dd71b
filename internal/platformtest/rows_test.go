package platformtest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// beside are the tests of faults beside TestMatrix: of real programs and real databases, and of one side alone.
var beside = []struct {
	rows, fault, folder string
	tests               []string
}{
	{
		"7, 8", "SIGKILL of control while a command runs, which ends before or after its restart", "internal/crashtest",
		[]string{"TestControlIsKilled"},
	},
	{
		"7", "SIGKILL of a replica whose call runs on an executor at another replica", "internal/crashtest",
		[]string{"TestExecutorAtTheOtherReplica", "TestOutputSurvivesAtTheOtherReplica"},
	},
	{
		"12", "SIGSTOP of a replica and, after another has taken over, SIGCONT", "internal/crashtest",
		[]string{"TestFrozenReplica"},
	},
	{
		"13, 15", "the executor dies between any two steps of a call, and while it revokes one", "services/executor/work",
		[]string{"TestKilledBetweenAnyTwoSteps", "TestKilledWhileRevoking"},
	},
	{
		"13, 14b", "the executor's journal is cut at every byte", "services/executor/journal",
		[]string{"TestTruncatedAtEveryByte"},
	},
	{
		"14a, 15", "SIGKILL of the executor's daemon while a command runs, which ends before or after its restart",
		"internal/crashtest",
		[]string{"TestExecutorIsKilled"},
	},
	{
		"14a", "SIGKILL of the executor's daemon while a command tool runs, which has not read its arguments yet",
		"internal/crashtest",
		[]string{"TestACommandToolOutlivesItsDaemon"},
	},
	{
		"14a, 14b, 15", "an executor in Python or Node that offers tools loses its connection, and gets SIGKILL, " +
			"while a tool runs and before its result is acknowledged",
		"cmd/control",
		[]string{"TestExampleToolsPython", "TestExampleToolsNode"},
	},
	{
		"14b", "an executor leaves, or takes its offer back, between a model's call of its tool and the start of " +
			"the call",
		"services/control/loop",
		[]string{"TestACallWhoseToolIsGoneBeforeItIsPlaced"},
	},
	{
		"14b", "an executor comes back without the tool of a call that it has, and the loop has another owner",
		"services/control/loop",
		[]string{"TestACallOutlivesTheOfferOfItsTool"},
	},
	{"14a", "SIGKILL of control and the executor's daemon", "internal/crashtest", []string{"TestBothAreKilled"}},
	{
		"14a", "SIGKILL of a daemon; the next one attaches to the command", "services/executor/keeper",
		[]string{"TestDaemonKilledWhileCommandRuns"},
	},
	{"14b", "SIGKILL of the keeper, and of keeper and daemon", "internal/crashtest", []string{"TestKeeperIsKilled"}},
	{
		"14b", "SIGKILL of a keeper while commands run, and while others start", "services/executor/keeper",
		[]string{"TestKeeperKilled", "TestStartsWhileKeepersDie"},
	},
	{
		"16", "the executor's data directory is set back to a backup of before the call", "internal/crashtest",
		[]string{"TestRestoredDataDirectory"},
	},
	{"18", "a clone of the executor's machine connects", "internal/crashtest", []string{"TestClonedMachine"}},
	{"20", "a replica loses Postgres", "internal/crashtest", []string{"TestReplicaLosesTheDatabase"}},
	{"22", "Postgres restarts", "internal/crashtest", []string{"TestPostgresRestarts"}},
	{"23", "Postgres fails over and loses commits", "internal/crashtest", []string{"TestFailoverThatLostCommits"}},
	{
		"23", "the database is set back to an older one, and executors know higher epochs", "internal/platformtest",
		[]string{"TestRestoredDatabaseIsRaisedAboveWhatExecutorsKnow"},
	},
	{"24", "SIGTERM of a replica", "internal/crashtest", []string{"TestDrainHandsOver"}},
	{
		"26", "a summariser hangs until the submission's deadline", "services/control/loop",
		[]string{"TestDeadlineWhileASummaryIsWritten"},
	},
	{
		"29", "no space for the executor's journal, for control's database", "internal/crashtest",
		[]string{"TestExecutorsDiskIsFull", "TestControlsDiskIsFull"},
	},
	{"29", "no space at any write of the executor's journal", "services/executor/journal", []string{"TestFullDisk"}},
	{
		"30", "at any commit of a tree of sub-agents a replica is killed or drains, or a client aborts the submission",
		"internal/platformtest",
		[]string{"TestTreeKilledAtEveryCommit", "TestTreeDrainedAtEveryCommit", "TestTreeAbortedAtEveryCommit"},
	},
	{
		"30", "at any commit of a submission whose conversation is summarised a replica is killed or drains",
		"internal/platformtest",
		[]string{
			"TestSummaryKilledAtEveryCommit", "TestSummaryDrainedAtEveryCommit", "TestSummaryByHandKilledAtEveryCommit",
		},
	},
	{
		"30", "at any commit of a run of a workflow a replica is killed or drains", "internal/platformtest",
		[]string{"TestRunsKilledAtEveryCommit", "TestRunsDrainedAtEveryCommit"},
	},
	{
		"30", "at any commit of runs of all kinds of steps their owner dies or drains", "services/control/run/runner",
		[]string{"TestRunsSurviveADeathAtEveryCommit", "TestRunsComeToTheSame", "TestACancelledRunEnds"},
	},
	{
		"31", "the database's clock is hours ahead or behind; it jumps by hours", "internal/platformtest",
		[]string{"TestDatabaseWithAnotherTime", "TestDatabaseWhoseClockJumps"},
	},
	{
		"32", "a submission, an entry or a definition cannot be decoded", "internal/platformtest",
		[]string{"TestDamagedRowsStopNobodyElse"},
	},
	{
		"33", "a real Postgres' clock jumps by hours, there and back", "services/control/store/postgres",
		[]string{"TestServersClockJumps"},
	},
	{
		"34", "a replica is killed before or after any commit of a call that waits for an approval, the decision, " +
			"and its expiry",
		"internal/platformtest",
		[]string{"TestDecisionKilledAtEveryWrite", "TestExpiryKilledAtEveryWrite"},
	},
	{
		"34", "the owner of a lane dies at any commit while calls of a tree wait for approvals",
		"services/control/loop",
		[]string{"TestGateSurvivesADeathAtEveryCommit"},
	},
	{
		"34", "every replica is replaced, by ones with other rules, while a call waits for an approval, which is " +
			"decided or expires meanwhile",
		"internal/platformtest",
		[]string{"TestRollingUpgradeWithAParkedApproval", "TestRollingUpgradeWhileAnApprovalExpires"},
	},
	{
		"34", "an approval is decided, or expires, while a sub-agent beside it has its conversation summarised",
		"services/control/loop",
		[]string{"TestSubAgentSummarisesBesideAnApproval"},
	},
	{
		"34", "an approval is decided in the moment in which an abort withdraws it", "services/control/loop",
		[]string{"TestDecisionAgainstAnAbort", "TestAbortAfterADecisionThatWasTold"},
	},
	{
		"34", "on a real Postgres an approval is decided at a replica that does not own the lane, whose owner may be " +
			"dead",
		"internal/platformtest",
		[]string{"TestDecisionsOnTwoReplicas"},
	},
	{
		"35", "a replica is told of a rate limit while the database hangs, fails, or does not take what it writes",
		"services/control/model",
		[]string{"TestADatabaseThatDoesNotAnswerChangesNothing", "TestAPauseThatWasNotWrittenIsNotForgotten"},
	},
	{
		"35", "the owner dies at any commit of a submission whose model fails and that goes on with another",
		"services/control/loop",
		[]string{"TestASwitchSurvivesADeathAtEveryCommit"},
	},
}

// rows are those of the matrix, less 27 and 28, which are about workflows. Row 30 is trees of sub-agents,
// 31 the database's clock, 32 rows that cannot be decoded, 34 approvals, 35 providers that are overloaded.
func rows() []string {
	var all []string
	for i := 1; i <= 26; i++ {
		if i == 14 {
			all = append(all, "14a", "14b")
			continue
		}
		all = append(all, strconv.Itoa(i))
	}
	return append(all, "29", "30", "31", "32", "33", "34", "35")
}

// Every row of the crash matrix has a test, and every test that is named here exists.
func TestEveryRowHasATest(t *testing.T) {
	tests := map[string][]string{}
	for _, r := range matrix {
		tests[r.row] = append(tests[r.row], "TestMatrix/"+r.row+" "+r.name+" → "+r.outcome)
	}
	declared := map[string]map[string]bool{}
	for _, x := range beside {
		if declared[x.folder] == nil {
			declared[x.folder] = declaredIn(t, x.folder)
		}
		for _, test := range x.tests {
			if !declared[x.folder][test] {
				t.Errorf("rows %s: there is no %s in %s", x.rows, test, x.folder)
			}
			for row := range strings.SplitSeq(x.rows, ", ") {
				tests[row] = append(tests[row], x.folder+" "+test)
			}
		}
	}
	for _, row := range rows() {
		if len(tests[row]) == 0 {
			t.Errorf("row %s has no test", row)
		}
		for _, name := range tests[row] {
			t.Logf("| %s | %s |", row, name)
		}
		delete(tests, row)
	}
	for row := range tests {
		t.Errorf("row %s is none of the matrix", row)
	}
}

// declaredIn are the functions in the tests of a folder of this module.
func declaredIn(t *testing.T, folder string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range files {
		syntax, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range syntax.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				names[fn.Name.Name] = true
			}
		}
	}
	return names
}
