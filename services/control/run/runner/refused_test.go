package runner_test

import (
	"strconv"
	"testing"
)

// After a commit that the database has refused nothing is committed by the same owner: the next one goes on from what
// is there, and the run comes to the same.
func TestRefusedCommits(t *testing.T) {
	const definition = `
steps:
  - id: all
    foreach: ["1", "2", "3"]
    as: n
    parallel: 3
    do:
      - id: one
        shell: '2: done $N'
        env: {N: "${{ n }}"}
    output: "${{ steps.one.stdout }}"
output: "${{ steps.all.items }}"
`
	const want = `completed ["done 1","done 2","done 3"]`
	commits := 0
	try(t, map[string]string{"w": definition}, func(b *bench) {
		b.expect(b.end(b.begin("w", `{}`)), want)
		commits = b.store.count()
	})
	for n := 1; n <= commits; n++ {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			try(t, map[string]string{"w": definition}, func(b *bench) {
				b.store.refused = n
				id := b.begin("w", `{}`)
				b.expect(b.end(id), want)
				b.consistent(id)
				if all := b.machine.executed(); len(all) != 3 {
					b.Errorf("executed %q", all)
				}
			})
		})
	}
}
