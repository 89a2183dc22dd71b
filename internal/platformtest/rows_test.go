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

// elsewhere are the tests of rows beside TestMatrix: of real programs and real databases, and of one side alone.
var elsewhere = map[string][]string{
	"7":   {"internal/crashtest TestControlIsKilled", "internal/crashtest TestExecutorAtTheOtherReplica"},
	"8":   {"internal/crashtest TestControlIsKilled"},
	"13":  {"services/executor/work TestKilledBetweenAnyTwoSteps", "services/executor/work TestKilledWhileRevoking"},
	"14a": {"internal/crashtest TestExecutorIsKilled", "internal/crashtest TestBothAreKilled", "services/executor/keeper TestDaemonKilledWhileCommandRuns"},
	"14b": {"internal/crashtest TestKeeperIsKilled", "services/executor/keeper TestKeeperKilled"},
	"15":  {"internal/crashtest TestExecutorIsKilled", "services/executor/work TestKilledBetweenAnyTwoSteps"},
	"20":  {"internal/crashtest TestReplicaLosesTheDatabase"},
	"22":  {"internal/crashtest TestPostgresRestarts"},
	"23":  {"internal/crashtest TestFailoverThatLostCommits"},
	"29":  {"internal/crashtest TestExecutorsDiskIsFull", "internal/crashtest TestControlsDiskIsFull", "services/executor/journal TestFullDisk"},
}

// rows are those of the matrix, less 27 and 28, which are about workflows.
func rows() []string {
	var all []string
	for i := 1; i <= 26; i++ {
		if i == 14 {
			all = append(all, "14a", "14b")
			continue
		}
		all = append(all, strconv.Itoa(i))
	}
	return append(all, "29")
}

// Every row of the crash matrix has a test, and every test that is named here exists.
func TestEveryRowHasATest(t *testing.T) {
	tests := map[string][]string{}
	for _, r := range matrix {
		tests[r.row] = append(tests[r.row], "TestMatrix/"+r.row+" "+r.name+" → "+r.outcome)
	}
	declared := map[string]map[string]bool{}
	for row, names := range elsewhere {
		for _, name := range names {
			folder, test, _ := strings.Cut(name, " ")
			if declared[folder] == nil {
				declared[folder] = declaredIn(t, folder)
			}
			if !declared[folder][test] {
				t.Errorf("row %s: there is no %s in %s", row, test, folder)
			}
			tests[row] = append(tests[row], name)
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
