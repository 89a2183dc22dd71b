//go:build !full

package runner_test

// long says that tests do all that they can rather than a part of it.
const long = false
