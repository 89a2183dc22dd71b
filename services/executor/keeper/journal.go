package keeper

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/disk"
)

// Kinds of records in keeper.log.
const (
	recKeeper = "keeper" // a keeper took over: key, place
	recStart  = "start"  // about to fork
	recFail   = "fail"   // the fork did not happen; the id is free again
	recEnd    = "end"
	recForget = "forget"
)

// record is one line: the CRC-32C of the JSON in hex, a space, the JSON.
type record struct {
	Kind  string `json:"kind"`
	ID    string `json:"id,omitempty"`
	At    int64  `json:"at,omitempty"`
	End   *end   `json:"end,omitempty"`
	Key   uint32 `json:"key,omitempty"`
	Place string `json:"place,omitempty"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (r *record) encode() []byte {
	body, err := json.Marshal(r)
	if err != nil {
		panic(err) // plain fields only
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(body, castagnoli), body)
}

func decodeRecord(line []byte) (*record, bool) {
	sum, body, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	if !ok || string(sum) != fmt.Sprintf("%08x", crc32.Checksum(body, castagnoli)) {
		return nil, false
	}
	r := new(record)
	if json.Unmarshal(body, r) != nil {
		return nil, false
	}
	return r, true
}

// history is what a log tells: the ends that are known, and which commands were started and never ended.
type history struct {
	key   uint32
	place string // of keeper.lock, which tells a data directory from its copies
	ends  map[string]*end
	open  map[string]int64 // id → started
	// damaged says that a bad record was followed by others: something is missing from the middle.
	damaged bool
	size    int64 // where its last good record ends
}

func replay(r io.Reader) (*history, error) {
	h := &history{ends: map[string]*end{}, open: map[string]int64{}}
	br, off := bufio.NewReader(r), int64(0)
	for {
		line, err := br.ReadBytes('\n')
		if err == io.EOF {
			return h, nil // what is left has no end of line: a torn last record
		}
		if err != nil {
			return nil, fmt.Errorf("reading the keeper's log: %w", err)
		}
		off += int64(len(line))
		rec, ok := decodeRecord(line)
		if !ok {
			_, err := br.Peek(1)
			h.damaged = h.damaged || err == nil
			continue
		}
		h.size = off
		switch rec.Kind {
		case recKeeper:
			h.key, h.place = rec.Key, rec.Place
		case recStart:
			h.open[rec.ID] = rec.At
		case recEnd:
			delete(h.open, rec.ID)
			h.ends[rec.ID] = rec.End
		case recFail, recForget:
			delete(h.open, rec.ID)
			delete(h.ends, rec.ID)
		}
	}
}

func (h *history) records() []*record {
	out := []*record{{Kind: recKeeper, At: now(), Key: h.key, Place: h.place}}
	for id, e := range h.ends {
		out = append(out, &record{Kind: recEnd, ID: id, End: e})
	}
	for id, started := range h.open {
		out = append(out, &record{Kind: recStart, ID: id, At: started})
	}
	return out
}

// journal is keeper.log, open for appending. A failed append leaves no trace: the next one overwrites it.
type journal struct {
	path string

	mu   sync.Mutex
	f    *os.File
	size int64
	seq  uint64 // records appended

	syncMu sync.Mutex // taken before mu
	synced uint64     // records known to be on disk
}

// readHistory replays the log of dir; a missing one is an empty history.
func readHistory(dir string) (*history, error) {
	f, err := os.Open(filepath.Join(dir, "keeper.log"))
	if errors.Is(err, os.ErrNotExist) {
		return &history{ends: map[string]*end{}, open: map[string]int64{}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening the keeper's log: %w", err)
	}
	defer f.Close()
	return replay(f)
}

// rewrite replaces the log by what is left of a history, atomically, and appends after that from then on.
func (j *journal) rewrite(h *history) error {
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.rewriteLocked(h)
}

// reopen appends behind the whole records of the log as it is.
func (j *journal) reopen(size int64) error {
	f, err := os.OpenFile(j.path, os.O_RDWR, 0o600)
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		return fmt.Errorf("opening the keeper's log: %w", err)
	}
	j.f, j.size = f, size
	return nil
}

// shrink drops what was forgotten.
func (j *journal) shrink() error {
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	h, err := replay(io.NewSectionReader(j.f, 0, j.size))
	if err != nil {
		return err
	}
	return j.rewriteLocked(h)
}

func (j *journal) rewriteLocked(h *history) error {
	f, err := os.OpenFile(j.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("rewriting the keeper's log: %w", err)
	}
	var all []byte
	for _, r := range h.records() {
		all = append(all, r.encode()...)
	}
	_, err = f.Write(all)
	err = errors.Join(err, f.Sync())
	if err == nil {
		err = os.Rename(j.path+".new", j.path)
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("rewriting the keeper's log: %w", err)
	}
	// From here on the new file is the log, whatever becomes of the directory's sync.
	if j.f != nil {
		j.f.Close()
	}
	j.f, j.size, j.synced = f, int64(len(all)), j.seq
	if err := disk.SyncDir(filepath.Dir(j.path)); err != nil {
		return fmt.Errorf("rewriting the keeper's log: %w", err)
	}
	return nil
}

// append adds a record; after a crash of this process it is there, after a crash of the host perhaps not.
func (j *journal) append(r *record) error {
	line := r.encode()
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.f.WriteAt(line, j.size); err != nil {
		j.f.Truncate(j.size)
		return fmt.Errorf("appending to the keeper's log: %w", err)
	}
	j.size += int64(len(line))
	j.seq++
	return nil
}

// sync returns when all that was appended is on disk. Callers that come together share one fdatasync.
func (j *journal) sync() error {
	j.mu.Lock()
	seq := j.seq
	j.mu.Unlock()
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	if j.synced >= seq {
		return nil
	}
	j.mu.Lock()
	f, upto := j.f, j.seq
	j.mu.Unlock()
	if err := disk.Datasync(f); err != nil {
		return fmt.Errorf("syncing the keeper's log: %w", err)
	}
	j.synced = upto
	return nil
}

func (j *journal) length() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.size
}

func now() int64 { return time.Now().UnixNano() }
