package keeper

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if Invoked() {
		os.Exit(Main())
	}
	os.Exit(m.Run())
}
