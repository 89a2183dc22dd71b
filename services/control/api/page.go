package api

import (
	"errors"
	"slices"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/ident"
)

// maxWeight is how many bytes of content go into one message before another is begun: gRPC's clients take 4 MiB by
// default.
const maxWeight = 1 << 20

// Failures of requests for pages.
var (
	errPageSize  = errs.New(errs.InvalidArgument, "PAGE_SIZE", "a page size is 1 to 1000, or 0 for 100")
	errCursor    = errs.New(errs.InvalidArgument, "CURSOR", "a cursor is the seq of an event, or 0")
	errBefore    = errs.New(errs.InvalidArgument, "BEFORE", "before is the seq of a submission, or 0")
	errPageToken = errs.New(errs.InvalidArgument, "PAGE_TOKEN", "the page token is not one that a page came with")
)

// pageSize is a page's size as asked for.
func pageSize(n int32) (int, error) {
	switch {
	case n == 0:
		return 100, nil
	case n < 0 || n > 1000:
		return 0, errPageSize
	}
	return int(n), nil
}

// pageRequest is a request for a page.
type pageRequest interface {
	GetPageSize() int32
	GetPageToken() string
}

// pageOf is the page of sorted items that are listed by name which begins after the one whose name is
// the token, and the token of the next page.
func pageOf[T any](all []T, req pageRequest, name func(T) string) (page []T, next string, err error) {
	limit, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, "", err
	}
	if err := checkRef("page_token", req.GetPageToken()); err != nil {
		return nil, "", err
	}
	first, _ := slices.BinarySearchFunc(all, req.GetPageToken(), func(item T, token string) int {
		if name(item) <= token {
			return -1
		}
		return 1
	})
	page = all[first:min(first+limit, len(all))]
	if first+limit < len(all) {
		next = name(page[limit-1])
	}
	return page, next, nil
}

// pageByID is the size of a page of what is listed newest first by id, and the id that its items are older than, "" for
// the first page.
func pageByID(req pageRequest) (limit int, before string, err error) {
	if limit, err = pageSize(req.GetPageSize()); err != nil {
		return 0, "", err
	}
	if before = req.GetPageToken(); before != "" && !ident.IsUUID(before) {
		return 0, "", errPageToken
	}
	return limit, before, nil
}

// encodeAll is the items on the wire.
func encodeAll[T, P any](items []T, encode func(T) P) []P {
	all := make([]P, len(items))
	for i, item := range items {
		all[i] = encode(item)
	}
	return all
}

// checkID answers for ids that no row can have.
func checkID(id string, missing error) error {
	if !ident.IsUUID(id) {
		return missing
	}
	return nil
}

// checkRef answers for texts that name a row, or none when they are empty, and that no row can have. A database may
// fail at them.
func checkRef(field, s string) error {
	if s == "" {
		return nil
	}
	return ident.CheckText(field, s, 512)
}

// checkKey is checkRef for the parts of a session's key.
func checkKey(k *pawlv1.SessionKey) error {
	return errors.Join(checkRef("key.agent", k.GetAgent()), checkRef("key.instance", k.GetInstance()),
		checkRef("key.session", k.GetSession()))
}

// cut is how many of the items fit into one message: at least one.
func cut[T any](items []T, most int, weigh func(*T) int) int {
	total := 0
	for i := range items {
		if total += weigh(&items[i]); total > most && i > 0 {
			return i
		}
	}
	return len(items)
}
