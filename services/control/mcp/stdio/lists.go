package stdio

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/pawl-dev/pawl/services/control/mcp"
)

// Bounds of what is kept of lists: how many, and bytes of all. Those go that were not looked at for the longest time.
const (
	maxLists  = 1000
	maxListed = 64 << 20
	// A list that a server says has changed is asked for again at once for changeBurst times, and then once in
	// changeEvery: one that never stops saying so costs no more than that.
	changeEvery = 10 * time.Second
	changeBurst = 3
)

// key tells lists apart: tenants share none, and agents none, whose variables a server sees.
type key struct {
	tenant, agent string
	place
}

// place is a server on an executor, as the executor names it.
type place struct{ executor, server string }

// listing is what a server has listed, or why it has not.
type listing struct {
	key  key
	lock chan struct{} // held by who asks; guards
	list mcp.List
	err  error
	at   time.Time
	seen int64 // how many changes of the place it has

	size int       // bytes; guarded by lists.mu, as is
	used time.Time // when it was looked for
}

// changes are what a server on an executor says of changes of its list.
type changes struct {
	lists   int   // that were asked for
	said    int64 // how often it was said that it has changed
	counted int64 // what of that counts
	pace    *rate.Limiter
}

// lists are those that were asked for. Its methods may be called concurrently.
type lists struct {
	mu     sync.Mutex // guards what follows
	all    map[key]*listing
	places map[place]*changes
	bytes  int
}

func newLists() *lists { return &lists{all: map[key]*listing{}, places: map[place]*changes{}} }

// find is the listing with a key, a new one if there is none.
func (s *lists) find(k key) *listing {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.all[k]
	if l == nil {
		l = &listing{key: k, lock: make(chan struct{}, 1)}
		s.all[k] = l
		p := s.places[k.place]
		if p == nil {
			p = &changes{pace: rate.NewLimiter(rate.Every(changeEvery), changeBurst)}
			s.places[k.place] = p
		}
		p.lists++
	}
	l.used = time.Now()
	s.evict(l)
	return l
}

// keep notes the size of a listing.
func (s *lists) keep(l *listing, size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[l.key] == l {
		s.bytes += size - l.size
		l.size = size
		s.evict(l)
	}
}

// evict forgets listings until there are few enough, but not this one. The mutex is held.
func (s *lists) evict(but *listing) {
	for len(s.all) > maxLists || s.bytes > maxListed && len(s.all) > 1 {
		var oldest *listing
		for _, l := range s.all {
			if l != but && (oldest == nil || l.used.Before(oldest.used)) {
				oldest = l
			}
		}
		delete(s.all, oldest.key)
		s.bytes -= oldest.size
		if p := s.places[oldest.key.place]; p.lists > 1 {
			p.lists--
		} else {
			delete(s.places, oldest.key.place)
		}
	}
}

// changed notes that a server says that its list has changed.
func (s *lists) changed(at place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.places[at]; p != nil {
		p.said++
	}
}

// change is how many changes count that were announced to a listing.
func (s *lists) change(l *listing) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.places[l.key.place]; p != nil {
		return p.count()
	}
	return l.seen
}

// versions are those of a server's lists on an executor, "" for all, in order.
func (s *lists) versions(server, executor string) (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	add := func(at place, p *changes) {
		if n := p.count(); n > 0 {
			all = append(all, fmt.Sprintf("%s %d", at.executor, n))
		}
	}
	if executor != "" {
		if p := s.places[place{executor, server}]; p != nil {
			add(place{executor, server}, p)
		}
		return all
	}
	for at, p := range s.places {
		if at.server == server {
			add(at, p)
		}
	}
	slices.Sort(all)
	return all
}

// count makes what was said count, as often as that may be.
func (p *changes) count() int64 {
	if p.said != p.counted && p.pace.Allow() {
		p.counted = p.said
	}
	return p.counted
}
