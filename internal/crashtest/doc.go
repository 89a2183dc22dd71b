// Package crashtest kills the real programs with real signals while commands run, and looks at what is left: the true
// result, once. Tests run side by side: most of their time they wait for leases to end and for processes to come back.
package crashtest
