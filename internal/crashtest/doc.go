// Package crashtest kills the real programs with real signals while commands run, and looks at what is left: the true
// result, once.
package crashtest
