package api

import (
	"testing"

	"google.golang.org/protobuf/proto"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/model"
)

// What a usage counts is told, and so is what each of it has cost.
func TestAUsageIsTold(t *testing.T) {
	got := encodeUsage(model.Usage{
		Input: 1, Output: 2, CacheRead: 3, CacheWrite: 4, Searches: 5,
		Cost: model.Cost{Input: 6, Output: 7, CacheRead: 8, CacheWrite: 9, Search: 10},
	})
	want := &pawlv1.Usage{
		Input: 1, Output: 2, CacheRead: 3, CacheWrite: 4, Searches: 5,
		CostInput: 6, CostOutput: 7, CostCacheRead: 8, CostCacheWrite: 9, CostSearch: 10,
	}
	if !proto.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
