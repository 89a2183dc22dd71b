package sandboxtest

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// fixture lays files that the verbs cannot make, links above all.
func (b *bench) fixture(line string) {
	b.Helper()
	if r := b.result(b.start("fixture", sandbox.Command{Line: "set -e\n" + line})); r.Code != 0 {
		b.Fatalf("fixture: %+v", r)
	}
	b.ok(b.sb.Forget(b.ctx, "fixture"))
}

var fileTests = []test{
	{"binary with NUL and 0xff", func(b *bench) {
		b.write("bin", "a\x00b\xff\xfe\n\r")
		check(b, "content", b.read("bin"), "a\x00b\xff\xfe\n\r")
	}},
	{"empty file", func(b *bench) {
		b.write("empty", "")
		check(b, "content", b.read("empty"), "")
	}},
	{"10 MB, and a seek in it", func(b *bench) {
		big := strings.Repeat("0123456789abcde\n", 10<<20/16)
		b.write("big", big)
		check(b, "content", b.read("big") == big, true)
		f, _, err := b.sb.Open(b.ctx, "big")
		b.ok(err)
		defer f.Close()
		_, err = f.Seek(5<<20, io.SeekStart)
		b.ok(err)
		part := make([]byte, 16)
		_, err = io.ReadFull(f, part)
		b.ok(err)
		check(b, "part", string(part), "0123456789abcde\n")
	}},
	{"unicode and newline in names", func(b *bench) {
		for _, name := range []string{"żółć 日本 🦀", "two\nlines", " lead", "-dash", "quo'te\"", "tab\t"} {
			b.write(name, name)
			check(b, "content", b.read(name), name)
		}
		names, err := b.sb.ReadDir(b.ctx, ".")
		b.ok(err)
		check(b, "names", len(names), 6)
	}},
	{"write into a missing parent", func(b *bench) {
		b.write("a/b/c/file", "deep")
		check(b, "content", b.read("a/b/c/file"), "deep")
	}},
	{"write below a file", func(b *bench) {
		b.write("file", "x")
		b.is(b.tryWrite("file/below", "y"), sandbox.ErrNotDir)
	}},
	{"overwrite longer with shorter", func(b *bench) {
		b.write("f", strings.Repeat("long", 1000))
		b.write("f", "short")
		check(b, "content", b.read("f"), "short")
	}},
	{"absolute path", func(b *bench) {
		b.write(b.path("abs"), "x")
		check(b, "content", b.read("abs"), "x")
	}},
	{"write keeps the mode", func(b *bench) {
		b.write("script", "one")
		b.fixture("chmod 750 script")
		b.write("script", "two")
		i, err := b.sb.Stat(b.ctx, "script")
		b.ok(err)
		check(b, "mode", i.Mode.Perm(), 0o750)
	}},
	{"write with a mode", func(b *bench) {
		mode := func(name string, mode fs.FileMode) {
			b.Helper()
			w, err := b.sb.Create(b.ctx, name)
			b.ok(err)
			defer w.Abort()
			_, err = w.Write([]byte("content of " + name))
			b.ok(err)
			w.Chmod(mode)
			b.ok(w.Commit())
			i, err := b.sb.Stat(b.ctx, name)
			b.ok(err)
			check(b, "mode of "+name, i.Mode.Perm(), mode)
			check(b, name, b.read(name), "content of "+name)
		}
		mode("new", 0o777) // whatever the umask is
		mode("new", 0o600)
		b.fixture("echo long content of several words > one; ln one two")
		mode("one", 0o750)
		mode("d/new", 0o400)
	}},
	{"write keeps hard links", func(b *bench) {
		b.write("f", "one, and longer than what follows")
		b.fixture("chmod 640 f; ln f name; mkdir d; ln f d/other")
		for _, content := range []string{"two", "", strings.Repeat("longer again ", 10_000)} {
			b.write("d/other", content)
			check(b, "one name", b.read("f") == content, true)
			check(b, "another name", b.read("name") == content, true)
		}
		i, err := b.sb.Stat(b.ctx, "f")
		b.ok(err)
		check(b, "mode", i.Mode.Perm(), 0o640)
		names, err := b.sb.ReadDir(b.ctx, ".")
		b.ok(err)
		check(b, "what is there", strings.Join(names, " "), "d f name")
	}},
	{"write goes through links", func(b *bench) {
		b.fixture("mkdir d e; echo old > d/target; ln -s ../d/target e/link; ln -s e/link link2; ln -s nowhere/yet " +
			"dangling")
		b.write("link2", "new")
		check(b, "target", b.read("d/target"), "new")
		i, err := b.sb.Stat(b.ctx, "link2")
		b.ok(err)
		check(b, "still a link", i.IsSymlink, true)
		b.write("dangling", "made")
		check(b, "made", b.read("nowhere/yet"), "made")
		b.fixture("ln -s loop loop")
		b.is(b.tryWrite("loop", "x"), sandbox.ErrInvalidArg)
	}},
	{"nothing changes before commit", func(b *bench) {
		b.write("f", "old")
		w, err := b.sb.Create(b.ctx, "f")
		b.ok(err)
		_, err = w.Write([]byte("new"))
		b.ok(err)
		check(b, "before", b.read("f"), "old")
		w.Abort()
		w.Abort()
		check(b, "aborted", b.read("f"), "old")
		names, err := b.sb.ReadDir(b.ctx, ".")
		b.ok(err)
		check(b, "what is left", strings.Join(names, " "), "f")
		w, err = b.sb.Create(b.ctx, "f")
		b.ok(err)
		_, err = w.Write([]byte("new"))
		b.ok(err)
		b.ok(w.Commit())
		w.Abort()
		check(b, "after", b.read("f"), "new")
	}},
	{"a reader keeps what it opened", func(b *bench) {
		b.write("f", "old")
		f, _, err := b.sb.Open(b.ctx, "f")
		b.ok(err)
		defer f.Close()
		b.write("f", "new")
		all, err := io.ReadAll(f)
		b.ok(err)
		check(b, "content", string(bytes.TrimSpace(all)), "old")
	}},
	{"open and write of what is no file", func(b *bench) {
		b.fixture("mkdir dir; mkfifo pipe")
		_, _, err := b.sb.Open(b.ctx, "dir")
		b.is(err, sandbox.ErrIsDir)
		_, _, err = b.sb.Open(b.ctx, "missing")
		b.is(err, sandbox.ErrNotFound)
		_, _, err = b.sb.Open(b.ctx, "pipe")
		b.is(err, sandbox.ErrInvalidArg)
		b.is(b.tryWrite("dir", "x"), sandbox.ErrIsDir)
		b.is(b.tryWrite("pipe", "x"), sandbox.ErrInvalidArg)
		b.is(b.tryWrite("new/", "x"), sandbox.ErrIsDir)
		_, _, err = b.sb.Open(b.ctx, "")
		b.is(err, sandbox.ErrInvalidArg)
		_, _, err = b.sb.Open(b.ctx, "a\x00b")
		b.is(err, sandbox.ErrInvalidArg)
		_, _, err = b.sb.Open(b.ctx, strings.Repeat("x", 300))
		b.is(err, sandbox.ErrInvalidArg)
	}},
	{"errors name the path", func(b *bench) {
		_, err := b.sb.Stat(b.ctx, "not-there")
		check(b, "text", err != nil && strings.Contains(err.Error(), "not-there"), true)
	}},
	{"stat of file, dir, link, dangling link", func(b *bench) {
		b.write("file", "12345")
		b.fixture("mkdir dir; ln -s dir link; ln -s nowhere dangling")
		i, err := b.sb.Stat(b.ctx, "file")
		b.ok(err)
		check(b, "file", i.IsFile && !i.IsDir && !i.IsSymlink && i.Size == 5 && time.Since(i.ModTime) < time.Hour, true)
		i, err = b.sb.Stat(b.ctx, "dir")
		b.ok(err)
		check(b, "dir", i.IsDir && !i.IsFile && !i.IsSymlink, true)
		i, err = b.sb.Stat(b.ctx, "link")
		b.ok(err)
		check(b, "link", i.IsSymlink && !i.IsDir && i.LinkTarget == "dir", true)
		i, err = b.sb.Stat(b.ctx, "dangling")
		b.ok(err)
		check(b, "dangling", i.IsSymlink && !i.IsFile && i.LinkTarget == "nowhere", true)
		_, err = b.sb.Stat(b.ctx, "missing")
		b.is(err, sandbox.ErrNotFound)
		_, err = b.sb.Stat(b.ctx, "file/below")
		b.is(err, sandbox.ErrNotDir)
	}},
	{"an ended context", func(b *bench) {
		ctx, cancel := context.WithCancel(b.ctx)
		cancel()
		_, err := b.sb.Stat(ctx, ".")
		b.is(err, sandbox.ErrCancelled)
		_, err = b.sb.Start(ctx, "call", sandbox.Command{Line: "true"})
		b.is(err, sandbox.ErrCancelled)
	}},
}
