package memlimit

import (
	"runtime"
	"testing"
)

func TestWhatIsGivenBackAtRest(t *testing.T) {
	before := usage{allocated: 1 << 30}
	tests := []struct {
		name string
		now  usage
		want bool
	}{
		{"at rest, with garbage", usage{allocated: 1 << 30, live: 10 << 20, objects: 40 << 20}, true},
		{
			"at rest, with free pages",
			usage{allocated: 1 << 30, live: 10 << 20, objects: 10 << 20, free: 20 << 20},
			true,
		},
		{
			"at rest, with little of either",
			usage{allocated: 1 << 30, live: 10 << 20, objects: 20 << 20, free: 1 << 20},
			false,
		},
		{"at work", usage{allocated: 1<<30 + calm, live: 10 << 20, objects: 90 << 20}, false},
		{"before the first collection", usage{allocated: 1 << 30, objects: 4 << 20}, false},
		{"more live than objects", usage{allocated: 1 << 30, live: 50 << 20, objects: 40 << 20}, false},
	}
	for _, tt := range tests {
		if got := due(before, tt.now); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestTheRuntimeKnowsTheMetrics(t *testing.T) {
	used := make([]byte, 32<<20)
	u := heap()
	runtime.KeepAlive(used)
	if u.allocated < 32<<20 || u.objects < 32<<20 {
		t.Errorf("%+v after 32 MiB were allocated", u)
	}
}
