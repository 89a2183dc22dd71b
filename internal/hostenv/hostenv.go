// Package hostenv tells about the host that this process runs on: which part of its environment commands see, which control does not
// keep secret and executors pass on, and which run of its kernel this is.
package hostenv

import (
	"os"
	"strings"
)

// Names are the variables of the host that every command gets. No secret belongs in one of them.
var Names = []string{
	"PATH", "HOME", "USER", "LOGNAME", "HOSTNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TERM", "TMPDIR", "TMP", "TEMP",
}

// BootID names this run of the host's kernel: what an earlier one had not synced is gone. "" where there is no telling.
func BootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}
