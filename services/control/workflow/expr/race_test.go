//go:build race

package expr

func init() { racing = true }
