// Package plural writes numbers of things for people.
package plural

import "fmt"

// Of is n things of a kind, whose plural ends with an s: "1 byte", "2 bytes".
func Of[N ~int | ~int32 | ~int64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
