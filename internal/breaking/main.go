// Command breaking compares proto/ with the last landed commit and refuses what would break programs that use the API,
// unless a commit since then declares it.
//
//	breaking [-against REF] BUF...
//
// BUF is the command line of buf. A break is declared by a line of a commit's message that names the file and says why:
//
//	Breaks-API: proto/pawl/v1/sessions.proto: nobody could have used Session.color
//
// So a declaration is reviewed with the change, and is void once both have landed.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

func main() {
	against := flag.String("against", "", "commit to compare with (default: origin/main, or HEAD~ where that is HEAD)")
	flag.Parse()
	if err := run(context.Background(), *against, flag.Args(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "breaking:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, against string, buf []string, out io.Writer) error {
	if len(buf) == 0 {
		return errors.New("usage: breaking [-against REF] BUF...")
	}
	base, err := landed(ctx, against)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "pawl-breaking-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // of copies
	if err := extract(ctx, base, dir); err != nil {
		return err
	}
	found, err := compare(ctx, buf, dir)
	if err != nil {
		return err
	}
	messages, err := git(ctx, "log", "--format=%B", base+"..HEAD")
	if err != nil {
		return err
	}
	declared, undeclared := sift(found, messages)
	for _, line := range declared {
		fmt.Fprintln(out, "declared:", line)
	}
	if len(undeclared) > 0 {
		return fmt.Errorf("the API is broken for its users since %.12s:\n%s\nundo it, or declare it in a commit's "+
			"message by a line `Breaks-API: FILE: why` for each file", base, strings.Join(undeclared, "\n"))
	}
	return nil
}

// landed is the commit to compare with.
func landed(ctx context.Context, against string) (string, error) {
	if against != "" {
		return git(ctx, "rev-parse", "--verify", "--quiet", against+"^{commit}")
	}
	head, err := git(ctx, "rev-parse", "HEAD")
	if err != nil {
		return "", err
	}
	if main, err := git(ctx, "rev-parse", "--verify", "--quiet", "origin/main^{commit}"); err == nil && main != head {
		// What others have landed since is not this tree's to break or to keep.
		return git(ctx, "merge-base", main, head)
	}
	base, err := git(ctx, "rev-parse", "--verify", "--quiet", "HEAD~")
	if err != nil {
		return "", errors.New("there is no commit to compare with: fetch the history (git fetch --unshallow), or " +
			"give -against REF")
	}
	return base, nil
}

// extract writes the tree of a commit into dir. Which parts of it buf reads, the commit's own buf.yaml says.
func extract(ctx context.Context, commit, dir string) error {
	archive := exec.CommandContext(ctx, "git", "archive", "--format=tar", commit)
	unpack := exec.CommandContext(ctx, "tar", "-x", "-C", dir)
	var said, unpacking bytes.Buffer // both write at once
	archive.Stderr, unpack.Stderr = &said, &unpacking
	pipe, err := archive.StdoutPipe()
	if err != nil {
		return err
	}
	unpack.Stdin = pipe
	if err := unpack.Start(); err != nil {
		return err
	}
	if err := errors.Join(archive.Run(), unpack.Wait()); err != nil {
		return fmt.Errorf("reading the tree of %s: %w\n%s%s", commit, err, &said, &unpacking)
	}
	return nil
}

// broken is how buf ends when it has found something.
const broken = 100

// compare is what buf finds, a line each.
func compare(ctx context.Context, buf []string, dir string) (lines []string, err error) {
	cmd := exec.CommandContext(ctx, buf[0], append(slices.Clone(buf[1:]), "breaking", "--against", dir)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() != broken && !bytes.Contains(said.Bytes(), []byte("exit status 100")) {
		return nil, fmt.Errorf("%w\n%s%s", err, out, &said)
	}
	if err != nil && exit == nil {
		return nil, err
	}
	for line := range strings.Lines(string(out)) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines, nil
}

var (
	declaration = regexp.MustCompile(`(?m)^Breaks-API: ([^\s:]+): \S`)
	position    = regexp.MustCompile(`^([^:]+):\d+:\d+:`)
)

// sift tells the breaks in files that messages declare from the others. A line that names no file is declared by none.
func sift(found []string, messages string) (declared, undeclared []string) {
	files := map[string]bool{}
	for _, d := range declaration.FindAllStringSubmatch(messages, -1) {
		files[d[1]] = true
	}
	for _, line := range found {
		if at := position.FindStringSubmatch(line); at != nil && files[at[1]] {
			declared = append(declared, line)
		} else {
			undeclared = append(undeclared, line)
		}
	}
	return declared, undeclared
}

func git(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "git", args...).Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
