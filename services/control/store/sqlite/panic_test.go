package sqlite

import (
	"sync"
	"testing"

	"github.com/pawl-dev/pawl/internal/contain"
)

var (
	makeScratch  = sql(`CREATE TABLE scratch (n INTEGER)`)
	writeScratch = sql(`INSERT INTO scratch (n) VALUES (?)`)
	countScratch = sql(`SELECT count(*) FROM scratch`)
)

// An operation that panics takes back what it has written, costs those that share its transaction nothing, and leaves
// the writer and the connections in order.
func TestPanicsInOperations(t *testing.T) {
	for name, path := range map[string]string{"memory": Memory, "file": t.TempDir() + "/p.db"} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(t.Context(), path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}()
			if err := s.write(t.Context(), func(c tx) error {
				_, err := c.exec(makeScratch)
				c.wrote = true // which no statement says that makes a table
				return err
			}); err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			for n := range 100 {
				all.Go(func() {
					err := s.write(t.Context(), func(c tx) error {
						if n%10 == 1 {
							panic("before writing")
						}
						if _, err := c.exec(writeScratch, int64(n)); err != nil {
							return err
						}
						if n%10 == 0 {
							panic("after writing")
						}
						return nil
					})
					if want := n%10 <= 1; contain.Is(err) != want || !want && err != nil {
						t.Errorf("%d: %v", n, err)
					}
				})
			}
			all.Wait()
			for range 20 { // more than there are readers
				err := contain.Do(func() error {
					return s.read(t.Context(), func(c *conn) error {
						return c.rows(countScratch, func(row) (bool, error) { panic("while reading") })
					})
				})
				if !contain.Is(err) {
					t.Errorf("%v", err)
				}
			}
			var n int64
			err = s.read(t.Context(), func(c *conn) error {
				return c.rows(countScratch, func(r row) (bool, error) { n = r.int(0); return true, nil })
			})
			if err != nil || n != 80 {
				t.Errorf("%d rows, %v", n, err)
			}
		})
	}
}
