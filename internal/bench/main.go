// Command bench measures the platform as its programs run it, on memory, SQLite and Postgres, each figure beside a
// floor that is measured in the same run, so that ratios can be quoted.
//
//	main ─▶ measurements, one group a file ─▶ rows ─▶ table, Markdown, JSON
//	             └── bench: programs, databases, floors, for all; run: what one measurement starts, and ends
//
// docs/benchmarks.md says what each row means.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := command(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	only           *regexp.Regexp
	quick, list    bool
	json, markdown string
	before         *result // nil for none
}

func parse(args []string) (options, error) {
	o := options{only: regexp.MustCompile("")}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.Func("only", "measure only what matches this regular expression: NAME or NAME/DATABASE, see -list",
		func(s string) (err error) {
			o.only, err = regexp.Compile(s)
			return err
		})
	f.Func("before", "put the rows that -json wrote to this file at an earlier commit beside the rows of this one",
		func(file string) (err error) {
			o.before, err = readResult(file)
			return err
		})
	f.BoolVar(&o.quick, "quick", false, "short runs: to see that it works, not for figures")
	f.BoolVar(&o.list, "list", false, "list the measurements and measure nothing")
	f.StringVar(&o.json, "json", "", "write the rows to this file, as JSON")
	f.StringVar(&o.markdown, "markdown", "", "put the table into this Markdown file, between its marks")
	err := f.Parse(args)
	if err == nil && f.NArg() > 0 {
		err = fmt.Errorf("there are only flags, no arguments: %q", f.Args())
	}
	return o, err
}

func command(ctx context.Context, args []string) error {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	jobs := chosen(measurements, o.only)
	if o.list {
		for _, j := range jobs {
			fmt.Println(j)
		}
		return nil
	}
	rows, failed := measure(ctx, jobs, o.quick)
	if err := writeTable(os.Stdout, table(rows, o.before)); err != nil || failed != nil {
		return errors.Join(failed, err) // files have the whole of it, or stay as they are
	}
	return o.writeFiles(rows)
}
