package local

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

var byErrno = map[syscall.Errno]*errs.Error{
	syscall.ENOENT:       sandbox.ErrNotFound,
	syscall.ENOTDIR:      sandbox.ErrNotDir,
	syscall.EISDIR:       sandbox.ErrIsDir,
	syscall.EEXIST:       sandbox.ErrExists,
	syscall.ENOTEMPTY:    sandbox.ErrNotEmpty,
	syscall.EACCES:       sandbox.ErrPermission,
	syscall.EPERM:        sandbox.ErrPermission,
	syscall.EROFS:        sandbox.ErrPermission,
	syscall.ENOSPC:       sandbox.ErrNoSpace,
	syscall.EDQUOT:       sandbox.ErrNoSpace,
	syscall.EFBIG:        sandbox.ErrTooLarge,
	syscall.EINVAL:       sandbox.ErrInvalidArg,
	syscall.ENAMETOOLONG: sandbox.ErrInvalidArg,
	syscall.ELOOP:        sandbox.ErrInvalidArg,
	syscall.EXDEV:        sandbox.ErrInvalidArg,
	syscall.EMFILE:       sandbox.ErrUnavailable,
	syscall.ENFILE:       sandbox.ErrUnavailable,
}

// typed names the path and the reason of a failed system call, and nothing of ours in between.
func typed(path string, err error) error {
	if _, ok := errs.Public(err); err == nil || ok {
		return err
	}
	var no syscall.Errno
	if errors.As(err, &no) {
		e, ok := byErrno[no]
		if !ok {
			e = sandbox.ErrIO
		}
		return e.With("%s: %v", path, no)
	}
	return fmt.Errorf("%s: %w", path, err)
}
