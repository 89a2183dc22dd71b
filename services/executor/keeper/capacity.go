package keeper

import "golang.org/x/sys/unix"

const (
	// descriptorsPerCommand is how many a keeper needs for one at most: two pipes, the two files of its output and
	// their tails.
	descriptorsPerCommand = 6
	// descriptorsBeside is how many it needs for itself, for the command that is being started, and for looking at
	// processes.
	descriptorsBeside = 64
)

// Capacity is how many commands a keeper can hold at once that has a limit of open files, which it raises as far as it
// may.
func Capacity(openFiles uint64) int {
	if openFiles >= 1<<30 { // unlimited
		return 1 << 27
	}
	return max(1, (int(openFiles)-descriptorsBeside)/descriptorsPerCommand)
}

// OpenFiles is the limit that a keeper of this process will have.
func OpenFiles() (uint64, error) {
	var lim unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim)
	return lim.Max, err
}
