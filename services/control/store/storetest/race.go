//go:build race

package storetest

// raceEnabled tells that the detector runs, which slows SQLite down thirtyfold.
const raceEnabled = true
