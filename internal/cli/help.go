package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	helpWidth = 80 // columns of help
	indent    = "  "
	groupKey  = "pawl_group"
	unusedKey = "pawl_unused"
)

// Unused leaves inherited flags out of the help of a command and its subcommands, which have no use for them.
func Unused(c *cobra.Command, names ...string) {
	if c.Annotations == nil {
		c.Annotations = map[string]string{}
	}
	c.Annotations[unusedKey] = strings.Join(names, " ")
}

// unused reports whether Unused was called with a flag for a command or one above it.
func unused(c *cobra.Command, flag string) bool {
	for ; c != nil; c = c.Parent() {
		if slices.Contains(strings.Fields(c.Annotations[unusedKey]), flag) {
			return true
		}
	}
	return false
}

// Group puts flags under a heading in the help.
func Group(f *pflag.FlagSet, heading string, names ...string) {
	for _, name := range names {
		if err := f.SetAnnotation(name, groupKey, []string{heading}); err != nil {
			panic(err) // a flag that there is not
		}
	}
}

// help writes a command's help, 80 columns wide.
func help(w io.Writer, c *cobra.Command) {
	var b strings.Builder
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	for i, paragraph := range strings.Split(text, "\n\n") {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(fill(paragraph, "") + "\n")
	}
	b.WriteString("\nUsage:\n" + usageLine(c))
	if c.HasExample() {
		b.WriteString("\nExamples:\n")
		for _, line := range strings.Split(c.Example, "\n") {
			b.WriteString(indent + line + "\n")
		}
	}
	if c.HasAvailableSubCommands() {
		b.WriteString("\nCommands:\n")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				b.WriteString(entry(sub.Name(), sub.Short))
			}
		}
	}
	flagHelp(&b, c)
	_, _ = io.WriteString(w, b.String())
}

// usageLine is how the command is called.
func usageLine(c *cobra.Command) string {
	line := indent + c.CommandPath()
	if _, args, ok := strings.Cut(c.Use, " "); ok {
		line += " " + args
	}
	if c.HasAvailableFlags() && !strings.Contains(line, "[flags]") { // which stand before what has flags of its own
		line += " [flags]"
	}
	line += "\n"
	if c.HasAvailableSubCommands() {
		line += indent + c.CommandPath() + " COMMAND\n"
	}
	return line
}

// flagHelp writes the flags under their headings, in the order in which the headings come.
func flagHelp(b *strings.Builder, c *cobra.Command) {
	var headings []string
	under := map[string][]*pflag.Flag{}
	for of := c; of != nil; of = of.Parent() {
		of.Flags().SortFlags, of.PersistentFlags().SortFlags = false, false
	}
	for _, set := range []*pflag.FlagSet{c.LocalFlags(), c.InheritedFlags()} {
		set.SortFlags = false
		set.VisitAll(func(f *pflag.Flag) {
			if f.Hidden || unused(c, f.Name) {
				return
			}
			heading := "Flags"
			if g := f.Annotations[groupKey]; len(g) > 0 {
				heading = g[0]
			}
			if under[heading] == nil {
				headings = append(headings, heading)
			}
			under[heading] = append(under[heading], f)
		})
	}
	for _, h := range headings {
		b.WriteString("\n" + h + ":\n")
		for _, f := range under[h] {
			kind, usage := pflag.UnquoteUsage(f)
			if strings.HasPrefix(f.Usage, "`") { // the two columns are one phrase
				usage = strings.TrimLeft(strings.TrimPrefix(usage, kind), ": ")
			}
			name := "--" + f.Name
			if f.Shorthand != "" {
				name = "-" + f.Shorthand + ", " + name
			}
			if kind != "" {
				name += " " + strings.ToUpper(kind)
			}
			if strings.Contains(usage, "(default") { // which says more than the value
				b.WriteString(entry(name, usage))
				continue
			}
			switch v := f.DefValue; v {
			case "", "false", "0", "0s", "[]":
			default:
				usage += " (default " + v + ")"
			}
			b.WriteString(entry(name, usage))
		}
	}
}

// column is where the descriptions begin.
const column = 26

// entry is a name and what it means, in two columns.
func entry(name, text string) string {
	left := indent + name
	gap := strings.Repeat(" ", column)
	lines := fill(text, gap)
	if n := utf8.RuneCountInString(left); n <= column-2 {
		return left + gap[:column-n] + strings.TrimPrefix(lines, gap) + "\n"
	}
	return left + "\n" + lines + "\n"
}

// fill breaks a text into lines that begin with an indentation.
func fill(text, indentation string) string {
	var lines []string
	line := indentation
	for _, word := range strings.Fields(text) {
		if line != indentation && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > helpWidth {
			lines = append(lines, line)
			line = indentation
		}
		if line != indentation {
			line += " "
		}
		line += word
	}
	return strings.Join(append(lines, line), "\n")
}

// printHelp is help as cobra calls it.
func printHelp(c *cobra.Command, _ []string) { help(c.OutOrStdout(), c) }

// shortUsage is the usage after an error, which errors of ours name themselves.
func shortUsage(c *cobra.Command) error {
	_, err := fmt.Fprint(c.ErrOrStderr(), usageLine(c))
	return err
}
