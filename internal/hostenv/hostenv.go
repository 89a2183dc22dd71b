// Package hostenv is the part of a host's environment that commands on it see. Control keeps none of it secret, and executors pass on
// nothing else.
package hostenv

// Names are the variables of the host that every command gets. No secret belongs in one of them.
var Names = []string{
	"PATH", "HOME", "USER", "LOGNAME", "HOSTNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TERM", "TMPDIR", "TMP", "TEMP",
}
