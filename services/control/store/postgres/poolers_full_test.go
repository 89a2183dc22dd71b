//go:build full

package postgres_test

import (
	"testing"

	"github.com/pawl-dev/pawl/internal/pgtest"
	"github.com/pawl-dev/pawl/services/control/store/storetest"
)

// TestContractOnSimpleProtocol is how poolers are used that understand nothing else.
func TestContractOnSimpleProtocol(t *testing.T) {
	storetest.Run(t, opener(func(t *testing.T) string {
		return with(t, migrated.URL(t), "default_query_exec_mode", "simple_protocol")
	}))
}

// TestContractBehindAPooler is how hosted databases are reached: sessions are shared, and nothing of one lasts from one
// transaction to the next.
func TestContractBehindAPooler(t *testing.T) {
	storetest.Run(t, opener(func(t *testing.T) string { return pgtest.Pooled(t, migrated.URL(t)) }))
}
