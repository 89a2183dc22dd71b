//go:build race

package storetest

// raceEnabled tells that the detector runs, which slows SQLite down: thirtyfold where it checks SQLite's code, too.
const raceEnabled = true
