package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Execute runs a program's command. An error is told as Complain does.
func Execute(ctx context.Context, c *cobra.Command) error {
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return Misused(c, misread(c, err)) })
	c.SetHelpFunc(printHelp)
	c.SetUsageFunc(shortUsage)
	c.SilenceUsage, c.SilenceErrors, c.Version = true, true, Version
	err := c.ExecuteContext(ctx)
	if err != nil {
		Complain(c.ErrOrStderr(), c.Name(), err)
	}
	return err
}

// Misused is an error of a command's line, with where to read how it is used.
func Misused(c *cobra.Command, err error) error {
	return WithCode(fmt.Errorf("%w: see `%s --help`", err, c.CommandPath()), Usage)
}

// Args wants n arguments, which the command's usage names. Messages hold text only, and the library's words for
// what is none are its own.
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
			return Misused(c, noCommand(c, args[0]))
		case n == 0:
			return Misused(c, fmt.Errorf("%s takes no arguments, not %q", c.CommandPath(), args[0]))
		}
		return Misused(c, fmt.Errorf("%s takes %s; arguments given: %d", c.CommandPath(), names, len(args)))
	}
}

// noCommand says that there is no such command below c, and which one may have been meant.
func noCommand(c *cobra.Command, name string) error {
	var all []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			all = append(all, sub.Name())
		}
	}
	if near := nearest(name, all); near != "" {
		return fmt.Errorf("there is no command %q (did you mean %q?)", name, near)
	}
	return fmt.Errorf("there is no command %q", name)
}
