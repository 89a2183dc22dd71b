package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"charm.land/fang/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Execute runs a program's command. An error is told in one line.
func Execute(ctx context.Context, c *cobra.Command) error {
	c.SetFlagErrorFunc(Misused)
	return fang.Execute(ctx, c, fang.WithVersion(Version), fang.WithoutManpage(), fang.WithErrorHandler(func(w io.Writer, _ fang.Styles, err error) {
		Complain(w, c.Name(), err)
	}))
}

// Misused is an error of a command's line, with where to read how it is used.
func Misused(c *cobra.Command, err error) error {
	return fmt.Errorf("%w: see `%s --help`", err, c.CommandPath())
}

// Args wants n arguments, which the command's usage names. Messages hold text only, and the library's words for what is none are its own.
func Args(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		_, names, _ := strings.Cut(c.Use, " ")
		said := slices.Clone(args)
		if c.HasParent() { // a program's own flags may be paths, which may hold anything
			c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) { said = append(said, f.Value.String()) })
		}
		if i := slices.IndexFunc(said, func(s string) bool { return !utf8.ValidString(s) }); i >= 0 {
			return Misused(c, fmt.Errorf("%q is not UTF-8 text", said[i]))
		}
		switch {
		case len(args) == n:
			return nil
		case c.HasSubCommands():
			return Misused(c, fmt.Errorf("there is no command %q", args[0]))
		case n == 0:
			return Misused(c, fmt.Errorf("%s takes no arguments, not %q", c.CommandPath(), args[0]))
		}
		return Misused(c, fmt.Errorf("%s takes %s; arguments given: %d", c.CommandPath(), names, len(args)))
	}
}
