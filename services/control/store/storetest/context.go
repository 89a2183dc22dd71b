package storetest

import "context"

// ctx is the test's context when it has one.
func ctx(t tester) context.Context {
	if c, ok := t.(interface{ Context() context.Context }); ok {
		return c.Context()
	}
	return context.Background()
}
