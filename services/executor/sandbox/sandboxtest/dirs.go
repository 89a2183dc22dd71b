package sandboxtest

import (
	"strings"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

var dirTests = []test{
	{"readdir with dotfiles and a dangling link", func(b *bench) {
		b.fixture("mkdir d; touch d/b d/.hidden d/a; ln -s nowhere d/dangling; mkdir d/sub")
		names, err := b.sb.ReadDir(b.ctx, "d")
		b.ok(err)
		check(b, "names", strings.Join(names, " "), ".hidden a b dangling sub")
		names, err = b.sb.ReadDir(b.ctx, "d/sub")
		b.ok(err)
		check(b, "empty", len(names), 0)
		_, err = b.sb.ReadDir(b.ctx, "d/a")
		b.is(err, sandbox.ErrNotDir)
		_, err = b.sb.ReadDir(b.ctx, "missing")
		b.is(err, sandbox.ErrNotFound)
	}},
	{"exists", func(b *bench) {
		b.write("file", "x")
		b.fixture("mkdir dir; ln -s dir link; ln -s loop loop")
		for name, want := range map[string]bool{
			"file": true, "dir": true, "link": true, ".": true, "missing": false, "missing/below": false, "file/below": false,
			"loop": false, strings.Repeat("x", 300): false,
		} {
			got, err := b.sb.Exists(b.ctx, name)
			b.ok(err)
			check(b, name, got, want)
		}
	}},
	{"mkdir", func(b *bench) {
		b.write("file", "x")
		b.ok(b.sb.MakeDir(b.ctx, "one", false))
		b.is(b.sb.MakeDir(b.ctx, "one", false), sandbox.ErrExists)
		b.is(b.sb.MakeDir(b.ctx, "no/parent", false), sandbox.ErrNotFound)
		b.is(b.sb.MakeDir(b.ctx, "file", false), sandbox.ErrExists)
		b.is(b.sb.MakeDir(b.ctx, "file/below", false), sandbox.ErrNotDir)
		b.ok(b.sb.MakeDir(b.ctx, "no/parent", true))
		b.ok(b.sb.MakeDir(b.ctx, "no/parent", true))
		b.is(b.sb.MakeDir(b.ctx, "file", true), sandbox.ErrExists)
		b.is(b.sb.MakeDir(b.ctx, "file/below", true), sandbox.ErrNotDir)
		i, err := b.sb.Stat(b.ctx, "no/parent")
		b.ok(err)
		check(b, "made", i.IsDir, true)
	}},
	{"rm", func(b *bench) {
		b.fixture("touch file; mkdir empty full rec; touch full/x; mkdir -p rec/a/b; touch rec/a/b/c; ln -s nowhere " +
			"dangling; ln -s full link; touch full/keep")
		b.is(b.sb.Remove(b.ctx, "missing", false, false), sandbox.ErrNotFound)
		b.is(b.sb.Remove(b.ctx, "missing", true, false), sandbox.ErrNotFound)
		b.ok(b.sb.Remove(b.ctx, "missing", false, true))
		b.ok(b.sb.Remove(b.ctx, "missing", true, true))
		b.is(b.sb.Remove(b.ctx, "full", false, false), sandbox.ErrNotEmpty)
		b.is(b.sb.Remove(b.ctx, "full", false, true), sandbox.ErrNotEmpty)
		b.ok(b.sb.Remove(b.ctx, "link", true, false))
		b.ok(b.sb.Remove(b.ctx, "file", false, false))
		b.ok(b.sb.Remove(b.ctx, "empty", false, false))
		b.ok(b.sb.Remove(b.ctx, "dangling", false, false))
		b.ok(b.sb.Remove(b.ctx, "rec", true, false))
		names, err := b.sb.ReadDir(b.ctx, ".")
		b.ok(err)
		check(b, "what is left", strings.Join(names, " "), "full")
		check(b, "behind the link", b.read("full/keep"), "")
		b.is(b.sb.Remove(b.ctx, ".", true, true), sandbox.ErrInvalidArg)
		b.is(b.sb.Remove(b.ctx, "/", true, true), sandbox.ErrInvalidArg)
	}},
}
