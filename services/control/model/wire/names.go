package wire

import (
	"encoding/base64"
	"hash/fnv"
	"strconv"
	"strings"
	"unicode"
)

const (
	maxID   = 40 // characters of a call's id that every server takes
	maxName = 64 // characters of a tool's name, and of a key of the cache
)

func plainChar(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}

func plain(s string, most int) bool {
	for i := range len(s) {
		if !plainChar(s[i]) {
			return false
		}
	}
	return s != "" && len(s) <= most
}

// shortName is s if it is short and plain, else a hash of it.
func shortName(s string, most int) string {
	if plain(s, most) {
		return s
	}
	h := fnv.New128a()
	_, _ = h.Write([]byte(s))
	return "id_" + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// maxKeptID bounds an id in the journal, in bytes.
const maxKeptID = 256

// keptID is an id as it is kept in the journal: as the provider gave it, unless it is very long or holds what is no
// text.
func keptID(id string) string {
	if len(id) <= maxKeptID && !strings.ContainsFunc(id, unicode.IsControl) {
		return id
	}
	return shortName(id, 0)
}

// id is the id of a call as it is sent: of characters that every API takes, and new in the conversation. Some servers
// number the calls of each answer from the same number on.
func (e *Encoder) id(from string) string {
	to := shortName(from, maxID)
	for e.ids[to] > 0 {
		e.ids[to]++
		to = shortName(from+"\x00"+strconv.Itoa(e.ids[to]), maxID)
	}
	e.ids[to] = 1
	return to
}

// toolName is the name of a tool with characters that servers take. A model may have called a tool that does not exist.
func toolName(s string) string {
	if plain(s, maxName) {
		return s
	}
	b := []byte(s)
	if len(b) > maxName {
		b = b[:maxName]
	}
	for i, c := range b {
		if !plainChar(c) {
			b[i] = '_'
		}
	}
	if len(b) == 0 {
		return "unnamed"
	}
	return string(b)
}
