package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/pawl-dev/pawl/internal/proctest"
)

// copied is a copy of the executor's data directory as a backup makes it, sockets and all, while it is in use. A file
// that goes meanwhile is not part of it.
func (x *executor) copied(to string) bool {
	if os.RemoveAll(to) != nil {
		return false
	}
	_ = exec.Command("cp", "-a", x.data, to).Run() // what went meanwhile makes it fail
	_, err := os.Stat(filepath.Join(to, "journal.lock"))
	return err == nil
}

// clone starts a second executor on a copy of the data directory beside the first one, while f runs, as the clone of a
// machine does.
func (x *executor) clone(f func()) bool {
	data := x.data + ".clone"
	if !x.copied(data) {
		return false
	}
	defer os.RemoveAll(data) //nolint:errcheck // the run's directory goes as a whole
	args := append([]string(nil), x.args...)
	for i := range args {
		if args[i] == x.data {
			args[i] = data
		}
	}
	log, err := os.OpenFile(x.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return false
	}
	defer log.Close() //nolint:errcheck // of a log
	p, err := proctest.Start(x.path, args, x.dir, log)
	if err != nil {
		return false
	}
	f()
	err = p.End(syscall.SIGKILL, stopWithin)
	for _, pid := range keepers(data) {
		kill(pid)
	}
	return err == nil
}

// restore sets the data directory back to what it was before f ran, with everything that runs gone, as a machine is
// that is restored from a backup.
func (x *executor) restore(f func()) (done bool) {
	backup := x.data + ".backup"
	if !x.copied(backup) {
		return false
	}
	f()
	kept(x.node, syscall.SIGKILL, func() { done = wipe(x) && os.Rename(backup, x.data) == nil })
	return done
}
