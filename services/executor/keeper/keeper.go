package keeper

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/disk"
	"github.com/pawl-dev/pawl/internal/hostenv"
)

// argument is what a program's first argument is when it shall be a keeper.
const argument = "__keeper"

// readyFD is where a new keeper tells the process that started it that it serves, or why not.
const readyFD = 3

// config is what the daemon hands to a keeper that it starts, as JSON in the third argument.
type config struct {
	Version     string        `json:"version"`
	OrphanGrace time.Duration `json:"orphan_grace"`
	Idle        time.Duration `json:"idle"`
	StreamCap   int64         `json:"stream_cap"`
}

// firstWait is how long a new keeper waits at least for the daemon that started it, which may be slow to come.
const firstWait = 5 * time.Second

// Invoked reports whether this process was started as a keeper. A main function asks this before anything else:
//
//	if keeper.Invoked() {
//		os.Exit(keeper.Main())
//	}
func Invoked() bool { return len(os.Args) == 4 && os.Args[1] == argument }

// Main is the keeper process. It returns the exit code.
func Main() int {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	// Its memory has the environments of all sessions' commands.
	if err := hostenv.Conceal(); err != nil {
		log.Error("commands may see what this keeper knows of others", "err", err)
	}
	ready := os.NewFile(readyFD, "ready")
	// Whatever this process was born with that is not closed on exec would reach commands, and hold pipes open.
	unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	listenAgain()
	k, err := open(os.Args[2], os.Args[3], log)
	if err != nil {
		log.Error("keeper did not start", "err", err)
		ready.WriteString(err.Error())
		ready.Close()
		return 1
	}
	if k == nil {
		ready.WriteString(readyBusy)
		ready.Close()
		return 0
	}
	ready.WriteString(readyOK)
	ready.Close()
	k.run()
	return 0
}

// Answers on the ready pipe; anything else is an error's text.
const (
	readyOK   = "ok"
	readyBusy = "busy" // another keeper has the lock
)

// keeper is the process, with a field for each thing that its goroutines share.
type keeper struct {
	config
	home
	name string // of this process, which no other keeper has
	key  uint32 // in the tags of its commands, and in those of its predecessors'
	log  *slog.Logger

	// treeMu makes forks, reaps and scans of the process tree happen one at a time: a scan sees no half-made child, and
	// no pid in it gets another meaning. Taken before mu.
	treeMu    sync.Mutex
	deaths    int64 // children that were reaped; guarded by treeMu, as is
	noOrphans int64 // deaths when there was no orphan, the last time that somebody looked

	mu sync.Mutex // guards what follows, up to forked
	table
	compact  int64         // length of the journal that is worth a rewrite
	conn     *conn         // the daemon, if one is connected
	retiring bool          // it ends when it holds nothing
	closing  bool          // nothing starts any more
	reaped   chan struct{} // closed by the next reap

	forked await.Signal // a child was made: the reaper has something to wait for
	wake   await.Signal // run shall look again
	wg     sync.WaitGroup
}

// home is the data directory, and what a keeper has open there.
type home struct {
	dir     string
	lock    *os.File
	l       *net.UnixListener
	null    *os.File
	journal *journal
}

// table is the commands of a keeper.
type table struct {
	calls   map[string]*call
	leaders map[int]*call    // first processes that were not reaped
	owners  map[uint64]*call // by tag: commands that have processes, ended ones included that keep some
	ended   []*call          // whose ends are to be put on disk
	running int              // calls without an end on disk
	most    int              // of running, since there was none
}

// open makes a keeper that serves dir, or nil if one does already.
func open(dir, cfg string, log *slog.Logger) (k *keeper, err error) {
	k = &keeper{
		home: home{dir: dir}, log: log, compact: minCompact,
		table:  table{calls: map[string]*call{}, leaders: map[int]*call{}, owners: map[uint64]*call{}},
		reaped: make(chan struct{}), forked: await.NewSignal(), wake: await.NewSignal(),
	}
	if err := json.Unmarshal([]byte(cfg), &k.config); err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if err := os.Chdir(dir); err != nil {
		return nil, fmt.Errorf("entering the data directory: %w", err)
	}
	lock, ok, err := lockFile(dir)
	if err != nil || !ok {
		return nil, err
	}
	k.lock = lock
	if k.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		return nil, fmt.Errorf("opening the null device: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("becoming a subreaper: %w", err)
	}
	// Early: whoever connects now waits for the greeting instead of starting a keeper of its own.
	if k.l, err = listen(dir); err != nil {
		return nil, err
	}
	return k, k.inherit()
}

// inherit makes the log of the keepers before this one its own: their processes end, what they did not finish is
// interrupted, and what they knew is known.
func (k *keeper) inherit() error {
	h, err := readHistory(k.dir)
	if err != nil {
		return err
	}
	path := filepath.Join(k.dir, "keeper.log")
	if h.damaged {
		k.log.Error("the log has bad records, a copy is kept", "path", path+".damaged")
		if err := os.Link(path, path+".damaged"); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("keeping the damaged log: %w", err)
		}
	}
	place, err := disk.Place(k.lock)
	if err != nil {
		return fmt.Errorf("looking at the data directory: %w", err)
	}
	if h.place != "" && h.place != place {
		// What carries the key may be the commands of the directory that this one was copied from, in the care of its
		// keeper.
		k.log.Warn("the data directory is a copy, or was restored: processes of earlier commands are left alone")
		h.key = 0
	}
	h.place = place
	known := h.key != 0 && !h.damaged
	if h.key != 0 {
		k.sweepPredecessor(h.key)
	}
	for h.key == 0 {
		var b [4]byte
		rand.Read(b[:])
		h.key = binary.BigEndian.Uint32(b[:]) & (1<<30 - 1)
	}
	for id, started := range h.open {
		h.ends[id] = &end{Code: -1, Interrupted: true, Started: started, Ended: now()}
	}
	clear(h.open)
	k.key, k.name = h.key, rand.Text()
	k.journal = &journal{path: path}
	recorded := make(chan struct{})
	close(recorded)
	for id, e := range h.ends {
		k.calls[id] = &call{id: id, end: e, recorded: recorded}
	}
	if err := k.tidy(known); err != nil {
		k.log.Error("files of earlier commands could not be removed", "err", err)
	}
	err = k.journal.rewrite(h)
	if err != nil && known && k.journal.f == nil {
		// A full disk is no reason not to come back: all that this log lacks is found again by the next keeper.
		k.log.Warn("the log cannot be rewritten, going on with the old one", "err", err)
		return k.journal.reopen(h.size)
	}
	return err
}

// run serves one daemon after the other until this keeper is of no use any more.
func (k *keeper) run() {
	// Handlers, not SIG_IGN: a command would inherit that.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGHUP, unix.SIGINT)
	terminated := make(chan struct{})
	go func() {
		for s := range signals {
			if s == unix.SIGTERM {
				close(terminated)
				k.close()
				return
			}
		}
	}()
	go k.reap()
	go k.observeAll()
	conns := make(chan *net.UnixConn)
	go k.accept(conns)

	alone := time.Now()
	atLeast := firstWait
	for !k.isClosing() {
		held := k.held()
		limit := max(k.Idle, atLeast)
		if held {
			limit = k.OrphanGrace
		}
		timer := time.NewTimer(time.Until(alone.Add(limit)))
		select {
		case nc := <-conns:
			k.serve(nc)
			alone, atLeast = time.Now(), 0
		case <-k.wake:
			if held && !k.held() {
				alone = time.Now()
			}
		case <-timer.C:
			if held {
				k.log.Warn("no daemon came back, ending what runs", "after", k.OrphanGrace)
			}
			if held || !k.held() {
				k.close()
			}
		case <-terminated:
		}
		timer.Stop()
	}
	k.l.Close()
	os.Remove(filepath.Join(k.dir, "keeper.sock"))
	k.killEverything()
	k.wg.Wait()
}

func (k *keeper) accept(conns chan<- *net.UnixConn) {
	for {
		nc, err := k.l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			k.log.Error("accepting a connection failed", "err", err)
			time.Sleep(100 * time.Millisecond) // out of descriptors, most likely
			continue
		}
		conns <- nc // at exit nobody takes it; the end of the process closes it, and the daemon tries again
	}
}

// close makes run end: from now on nothing starts.
func (k *keeper) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closing = true
	if k.conn != nil {
		k.conn.nc.Close()
	}
	k.wake.Set()
}

// retire is asked for by a daemon of another version.
func (k *keeper) retire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.retiring = true
	k.leaveIfEmpty()
}

// leaveIfEmpty closes a retired keeper that holds nothing. The caller holds mu.
func (k *keeper) leaveIfEmpty() {
	if !k.retiring || k.running > 0 || len(k.owners) > 0 {
		return
	}
	k.closing = true
	if k.conn != nil {
		k.conn.nc.Close()
	}
	k.wake.Set()
}

func (k *keeper) isClosing() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.closing
}

// held reports whether any process is in this keeper's care.
func (k *keeper) held() bool {
	k.forgetEmptyOwners()
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.running > 0 || len(k.owners) > 0
}
