// Package hostenv tells about the host that this process runs on: which part of its environment commands see, which
// control does not keep secret and executors pass on, and which run of its kernel this is.
package hostenv

import (
	"os"
	"strings"
)

// Names are the variables of the host that every command gets. No secret belongs in one of them.
var Names = []string{
	"PATH", "HOME", "USER", "LOGNAME", "HOSTNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TERM", "TMPDIR", "TMP", "TEMP",
}

// Defaults are what every command gets beside that: nobody sits before it. No program waits for an editor, a pager or
// an answer. true as an editor takes the text as it is. The executor's configuration and an agent's env can change or
// remove each of them.
var Defaults = map[string]string{
	"TERM":                "dumb",
	"PAGER":               "cat",
	"GIT_PAGER":           "cat", // over core.pager
	"MANPAGER":            "cat",
	"EDITOR":              "true",
	"VISUAL":              "true",
	"GIT_EDITOR":          "true", // over core.editor
	"GIT_SEQUENCE_EDITOR": "true", // over sequence.editor: rebase -i keeps its list
	"GIT_TERMINAL_PROMPT": "0",
	"DEBIAN_FRONTEND":     "noninteractive",
	"VIMINIT":             vimInit,
}

// vimInit makes Vim give up where it would wait for a key and has no terminal. Vim is alone in waiting for ever without
// one. Scripts (vim -c … -c wq) never come to that point. VIMINIT replaces the user's vimrc, which is therefore read
// from here.
const vimInit = `if 1|if exists('##SafeState')&&!has('ttyin')|exe 'autocmd SafeState * cquit'|endif|` +
	`for f in ['~/.vimrc','~/.vim/vimrc']|if filereadable(expand(f))|exe 'source' f|break|endif|endfor|endif`

// BootID names this run of the host's kernel: what an earlier one had not synced is gone. "" where there is no telling.
func BootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}
