//go:build race

package storetest

// raceEnabled tells that the detector runs, which slows SQLite down: thirtyfold where it checks the code of SQLite, too.
const raceEnabled = true
