package hostenv

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Conceal keeps this process's secrets from other processes of its user, commands of agents above all:
//
//   - It is not dumpable from now on: /proc/PID/{environ,mem,maps,fd} and ptrace are for privileged processes only.
//   - The environment that it was started with is overwritten: the kernel shows it in /proc/PID/environ to whoever is
//     privileged. Go has copied it by now, so os.Getenv answers as before; the kernel shows the same memory to all.
//
// Root can still read this process's memory. Programs call this first. Children are as dumpable as the kernel makes
// them.
func Conceal() error {
	err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		err = fmt.Errorf("keeping the process's memory to itself: %w", err)
	}
	begin, end, serr := environment()
	if serr != nil {
		return errors.Join(err, fmt.Errorf("finding the environment to overwrite: %w", serr))
	}
	if begin < end {
		clear(unsafe.Slice((*byte)(startAddress(begin)), end-begin))
	}
	return err
}

// startAddress makes a pointer of an address that the kernel gave: it is not Go's memory, and the collector leaves it
// alone.
func startAddress(at uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&at)) }

// environment is where the process's first environment is: fields 50 and 51 of its status.
func environment() (begin, end uintptr, err error) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0, 0, err
	}
	_, rest, _ := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" ")) // the name may hold anything
	const state = 3                                                               // the first field of rest
	fields := bytes.Fields(rest)
	if len(fields) <= 51-state {
		return 0, 0, fmt.Errorf("the kernel shows %d fields of the process's status", len(fields)+state-1)
	}
	for i, to := range []*uintptr{&begin, &end} {
		n, err := strconv.ParseUint(string(fields[50+i-state]), 10, strconv.IntSize)
		if err != nil {
			return 0, 0, err
		}
		*to = uintptr(n)
	}
	return begin, end, nil
}
