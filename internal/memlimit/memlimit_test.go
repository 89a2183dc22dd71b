package memlimit

import (
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"testing"
	"testing/fstest"
)

func TestLimitOfAContainer(t *testing.T) {
	const (
		own1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n" +
			"35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
		own2    = "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
		mounted = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
	)
	for name, c := range map[string]struct {
		groups, mounts string
		files          map[string]string
		want           int64
	}{
		"none": {"0::/\n", own2, nil, 0},
		"version 2": {
			"0::/a/b\n", own2,
			map[string]string{"sys/fs/cgroup/a/b/memory.max": "268435456\n", "sys/fs/cgroup/a/memory.max": "max\n"},
			256 << 20,
		},
		"version 2, a smaller one above": {
			"0::/a/b\n", own2,
			map[string]string{"sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "1000\n"},
			1000,
		},
		"version 2, slowed down before": {
			"0::/a\n", own2,
			map[string]string{"sys/fs/cgroup/a/memory.max": "2000\n", "sys/fs/cgroup/a/memory.high": "1500\n"},
			1500,
		},
		"version 2, in its own view": {"0::/\n", own2, map[string]string{"sys/fs/cgroup/memory.max": "3000\n"}, 3000},
		"version 1": {
			"5:cpu:/x\n4:memory:/a/b\n0::/\n", own1,
			map[string]string{
				"sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "5000\n",
				"sys/fs/cgroup/memory/memory.limit_in_bytes":     "9223372036854771712\n",
			},
			5000,
		},
		"version 1, no limit": {
			"4:memory:/a\n", own1, map[string]string{"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n"}, 0,
		},
		"version 1, only the group is mounted": {
			"4:memory:/docker/abc\n", mounted, map[string]string{"sys/fs/cgroup/memory/memory.limit_in_bytes": "7000\n"}, 7000,
		},
		"version 1, of another view": {
			"4:memory:/../x\n", mounted, map[string]string{"sys/fs/cgroup/memory/memory.limit_in_bytes": "7000\n"}, 7000,
		},
		"both, as in a hybrid": {
			"4:memory:/a\n0::/b\n", own1 + own2,
			map[string]string{
				"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "5000\n",
				"sys/fs/cgroup/b/memory.max":                   "4000\n",
			},
			4000,
		},
		"nonsense": {"x\n::\n", "- - -\n\n", nil, 0},
		"a blank in a path": {
			"0::/\n", `30 23 0:26 / /my\040groups rw - cgroup2 cgroup2 rw` + "\n",
			map[string]string{"my groups/memory.max": "9\n"},
			9,
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := fstest.MapFS{
				"proc/self/cgroup":    {Data: []byte(c.groups)},
				"proc/self/mountinfo": {Data: []byte(c.mounts)},
			}
			for name, text := range c.files {
				root[name] = &fstest.MapFile{Data: []byte(text)}
			}
			if got, err := Limit(root); got != c.want || err != nil {
				t.Errorf("%d, %v, want %d", got, err, c.want)
			}
		})
	}
	if _, err := Limit(fstest.MapFS{}); err == nil {
		t.Error("a system without control groups is no error")
	}
}

func TestTheCollectorIsToldOfTheLimit(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	t.Setenv("GOMEMLIMIT", "")
	debug.SetMemoryLimit(math.MaxInt64)
	want := int64(math.MaxInt64)
	limit, err := Limit(os.DirFS("/"))
	if err != nil {
		t.Fatal(err)
	}
	if limit > 0 {
		want = limit - limit/headroom
	}
	Apply(slog.New(slog.DiscardHandler))
	if got := debug.SetMemoryLimit(-1); got != want {
		t.Errorf("the limit is %d, want %d", got, want)
	}
	t.Setenv("GOMEMLIMIT", strconv.Itoa(1<<30))
	debug.SetMemoryLimit(1 << 30)
	Apply(slog.New(slog.DiscardHandler))
	if got := debug.SetMemoryLimit(-1); got != 1<<30 {
		t.Errorf("what the environment says is overruled: %d", got)
	}
}
