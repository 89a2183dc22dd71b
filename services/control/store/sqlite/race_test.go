//go:build race

package sqlite

// slow tells that the race detector runs, which slows SQLite down thirtyfold.
const slow = true
