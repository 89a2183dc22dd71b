package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// adoptOrphans makes this process the parent of what its children leave behind: keepers above all, which outlive their
// executors.
func adoptOrphans() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("becoming the parent of orphans: %w", err)
	}
	return nil
}

// endOrphans kills what was adopted, and what that leaves. Everything that was started properly has ended by now.
func endOrphans() error {
	for {
		pids, err := children("self")
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
			if _, err := unix.Wait4(pid, nil, 0, nil); err != nil && !errors.Is(err, unix.ECHILD) {
				return err
			}
		}
	}
}

// children are the direct children of a process ("self" is this one), whichever of its threads they belong to.
func children(pid string) ([]int, error) {
	threads, err := os.ReadDir("/proc/" + pid + "/task")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, t := range threads {
		list, err := os.ReadFile("/proc/" + pid + "/task/" + t.Name() + "/children")
		if err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		for field := range strings.FieldsSeq(string(list)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return nil, err
			}
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// memory is a figure of a process in bytes: VmRSS is what it has in memory, VmHWM the most it ever had.
func memory(pid int, figure string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return parseKilobytes(string(status), figure)
}

// cpu is the processor time that processes have used, their threads' and not their children's.
func cpu(pids ...int) (sum time.Duration, err error) {
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		own, _, err := parseTicks(string(stat))
		if err != nil {
			return 0, err
		}
		sum += own
	}
	return sum, nil
}

// family is the processor time that a process and its children have used, those that have ended included.
func family(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	own, ended, err := parseTicks(string(stat))
	if err != nil {
		return 0, err
	}
	pids, err := children(strconv.Itoa(pid))
	if err != nil {
		return 0, err
	}
	live, err := cpu(pids...)
	return own + ended + live, err
}

// parseTicks finds the times in user and kernel mode of a process and of the children that have ended, which Linux
// gives in hundredths of a second whatever its own clock. The program's name, in brackets, may hold anything.
func parseTicks(stat string) (own, ended time.Duration, err error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 15 {
		return 0, 0, fmt.Errorf("the kernel tells no times: %q", stat)
	}
	var ticks [4]time.Duration
	for i, field := range fields[11:15] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, 0, err
		}
		ticks[i] = time.Duration(n) * 10 * time.Millisecond
	}
	return ticks[0] + ticks[1], ticks[2] + ticks[3], nil
}

// parseKilobytes finds a line such as "VmRSS:     1234 kB".
func parseKilobytes(status, figure string) (int64, error) {
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		if name != figure {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		return n * 1024, err
	}
	return 0, fmt.Errorf("the kernel tells no %s", figure)
}
