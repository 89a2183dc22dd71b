package keeper

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// How processes are told apart. The keeper is a child subreaper: every process of every command is its descendant, and
// one whose parent died becomes its direct child. So when a command's first process is gone, whatever is left of the
// command hangs below direct children of the keeper, and "none of those is ours" proves that nothing is left.
//
// Whose an orphan is, strongest evidence first:
//
//	session the command's first process leads one, and a process can leave a session but not enter one
//	descent it was seen below the command's first process, see observe
//	age     it was started before the command was
//	tag     a random number of the command's as the soft RLIMIT_LOCKS, which Linux keeps and inherits but has not
//	        enforced since 2.4. It survives setsid, double forks, env -i and closed descriptors; only a deliberate
//	        change removes it
//	marker  PAWL_CALL_ID in its environment
//
// Evidence on a descendant counts for its ancestors: a parent below the keeper is of the same command. The first three
// are facts. A tag and a marker are claims: a process can read those of another command and take them on. A claim
// decides with which command an orphan is killed. It does not prove that the orphan is of no other command: one that
// ends meanwhile, and ran when the orphan was started, is not confirmed. An orphan without evidence may be of any
// command that ran when it was started; it is killed when the last of those ends.

// proc is a line of /proc/PID/stat.
type proc struct {
	pid, ppid, pgid, sid int
	start                uint64 // clock ticks since boot; with pid it names a process for good
	dead                 bool   // a zombie, or gone
}

// id names a process for good.
type procID struct {
	pid   int
	start uint64
}

func (p proc) id() procID { return procID{p.pid, p.start} }

// errGone says that a process has ended, which is no failure to look at it.
var errGone = errors.New("the process has ended")

// readProc is errGone when there is no such process, and any other error when nobody can tell.
func readProc(pid int) (proc, error) {
	b, err := readProcFile(pid, "stat")
	if err != nil {
		return proc{}, err
	}
	p, ok := parseStat(pid, b)
	if !ok {
		return proc{}, fmt.Errorf("process %d: its status is not understood: %q", pid, b)
	}
	return p, nil
}

func readProcFile(pid int, name string) ([]byte, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + name)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, errGone
	}
	return b, err
}

// parseStat skips the name, which may hold anything, parentheses and spaces included.
func parseStat(pid int, b []byte) (proc, bool) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return proc{}, false
	}
	f := bytes.Fields(b[i+1:])
	if len(f) < 20 {
		return proc{}, false
	}
	p := proc{pid: pid, dead: f[0][0] == 'Z' || f[0][0] == 'X'}
	var err [4]error
	p.ppid, err[0] = strconv.Atoi(string(f[1]))
	p.pgid, err[1] = strconv.Atoi(string(f[2]))
	p.sid, err[2] = strconv.Atoi(string(f[3]))
	p.start, err[3] = strconv.ParseUint(string(f[19]), 10, 64)
	return p, errors.Join(err[:]...) == nil
}

func allProcs() ([]proc, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	names, err := d.Readdirnames(-1)
	d.Close()
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	procs := make([]proc, 0, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue // not a process
		}
		p, err := readProc(pid)
		if errors.Is(err, errGone) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("listing processes: %w", err)
		}
		procs = append(procs, p)
	}
	return procs, nil
}

// errNoChildren says that this kernel does not list the children of a process.
var errNoChildren = errors.New("the kernel does not list children")

// childPIDs lists the direct children of this process. Exact while nobody reaps one.
func childPIDs() ([]int, error) {
	pids, err := childrenOf(os.Getpid())
	if errors.Is(err, errNoChildren) {
		return childPIDsByScan()
	}
	return pids, err
}

// childrenOf lists the direct children of a process. errGone when it ends.
func childrenOf(pid int) ([]int, error) {
	root := "/proc/" + strconv.Itoa(pid) + "/task/"
	tasks, err := os.ReadDir(root)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, errGone
	}
	if err != nil {
		return nil, fmt.Errorf("listing threads: %w", err)
	}
	var pids []int
	for _, t := range tasks {
		b, err := os.ReadFile(root + t.Name() + "/children")
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			if _, err := os.Stat(root + t.Name()); err == nil {
				return nil, errNoChildren
			}
			return childrenOf(pid) // a thread ended, and its children moved to one that we may have read already
		}
		if err != nil {
			return nil, fmt.Errorf("listing children: %w", err)
		}
		for f := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

func childPIDsByScan() ([]int, error) {
	procs, err := allProcs()
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, p := range procs {
		if p.ppid == os.Getpid() {
			pids = append(pids, p.pid)
		}
	}
	return pids, nil
}

// anyChild reports whether this process has any child, dead ones included.
func anyChild() bool {
	_, err := waitPeek(unix.WNOHANG)
	return !errors.Is(err, unix.ECHILD)
}

// waitPeek waits for a child to die and leaves it a zombie, so that its number stays its own until the caller knows
// whose it is. 0 if WNOHANG is given and none died.
func waitPeek(flags int) (pid int, err error) {
	// siginfo_t of a dead child; the empty array gives pid its alignment.
	var info struct {
		signo, errno, code int32
		_                  [0]uintptr
		pid                int32
		_                  [128]byte
	}
	for {
		err = unix.Waitid(unix.P_ALL, 0, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOWAIT|flags, nil)
		if !errors.Is(err, unix.EINTR) {
			return int(info.pid), err
		}
	}
}

// subtree is root and all below it.
func subtree(root proc, children map[int][]proc) []proc {
	out := []proc{root}
	for i := 0; i < len(out); i++ {
		out = append(out, children[out[i].pid]...)
	}
	return out
}

func byParent(procs []proc) map[int][]proc {
	m := make(map[int][]proc, len(procs))
	for _, p := range procs {
		m[p.ppid] = append(m[p.ppid], p)
	}
	return m
}

// Tags: the keeper's key in the upper half, a random number in the lower. The two top bits are 01, which no limit that
// anyone sets has; 64-bit infinity has both.

func tag(key uint32, number uint32) uint64 {
	return 1<<62 | uint64(key&(1<<30-1))<<32 | uint64(number)
}

// randomTag is one that nothing else has: a command cannot guess the tag of another, or of one to come.
func randomTag(key uint32, taken func(uint64) bool) uint64 {
	for {
		var b [4]byte
		rand.Read(b[:])
		if t := tag(key, binary.BigEndian.Uint32(b[:])); !taken(t) {
			return t
		}
	}
}

// setTag makes what this process forks next carry t. Only the soft limit changes, so that no privilege is needed.
func setTag(t uint64) error {
	var lim unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_LOCKS, nil, &lim); err != nil {
		return err
	}
	lim.Cur = t
	return unix.Prlimit(0, unix.RLIMIT_LOCKS, &lim, nil)
}

// tagOf reads a process's tag. errGone when it has ended.
func tagOf(pid int) (t uint64, tagged bool, err error) {
	var lim unix.Rlimit
	if unix.Prlimit(pid, unix.RLIMIT_LOCKS, nil, &lim) == nil {
		return lim.Cur, lim.Cur>>62 == 1, nil
	}
	// Not ours to ask, a program that changed its user for instance; this file is open to all.
	b, err := readProcFile(pid, "limits")
	if err != nil {
		return 0, false, err
	}
	_, rest, _ := strings.Cut(string(b), "Max file locks")
	f := strings.Fields(rest)
	if len(f) == 0 {
		return 0, false, nil
	}
	t, err = strconv.ParseUint(f[0], 10, 64)
	return t, err == nil && t>>62 == 1, nil // it may be "unlimited"
}

// environ looks up a variable in the environment that a process was started with; "" for another user's process.
func environ(pid int, name string) (string, error) {
	b, err := readProcFile(pid, "environ")
	if err != nil && !errors.Is(err, os.ErrPermission) {
		return "", err
	}
	for kv := range bytes.SplitSeq(b, []byte{0}) {
		if v, ok := bytes.CutPrefix(kv, []byte(name+"=")); ok {
			return string(v), nil
		}
	}
	return "", nil
}

// signal sends sig to p, and to no other process that got its number since. It fails for what has ended, and for what
// is not ours to signal: whoever kills looks again at what is left.
func (p proc) signal(sig unix.Signal) {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err == nil {
		defer unix.Close(fd)
	}
	q, rerr := readProc(p.pid)
	switch {
	case errors.Is(rerr, errGone), rerr == nil && q.start != p.start:
	case err == nil && rerr == nil:
		_ = unix.PidfdSendSignal(fd, sig, nil, 0)
	default: // an old kernel, or no descriptor: the number can be another's only after a whole round of all numbers
		_ = unix.Kill(p.pid, sig)
	}
}

// bootTicks is the time as /proc/PID/stat gives it, in ticks of 1/100 s on every Linux that Go supports.
func bootTicks() uint64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0 // every orphan may then be this command's: it is killed late, never early
	}
	return uint64(ts.Sec)*100 + uint64(ts.Nsec)/1e7
}
