package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pawl-dev/pawl/internal/cli"
)

// marshal makes of a message JSON as the HTTP API has it, with every field that is not a message. Unlike
// protojson's, the spaces are always the same, and no control character is left that a terminal would act on.
func marshal(m proto.Message, indent string) ([]byte, error) {
	raw, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding the answer: %w", err)
	}
	var b bytes.Buffer
	if indent == "" {
		err = json.Compact(&b, raw)
	} else {
		err = json.Indent(&b, raw, "", indent)
	}
	if err != nil {
		return nil, fmt.Errorf("encoding the answer: %w", err)
	}
	return escaped(b.Bytes()), nil
}

// escaped is JSON without control characters other than line breaks.
func escaped(raw []byte) []byte {
	if bytes.IndexFunc(raw, cli.Acts) < 0 {
		return raw
	}
	var b bytes.Buffer
	for _, r := range string(raw) {
		if cli.Acts(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
			continue
		}
		b.WriteRune(r)
	}
	return b.Bytes()
}

// printJSON writes one object.
func printJSON(w io.Writer, m proto.Message) error {
	body, err := marshal(m, "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(body, '\n'))
	return err
}

// listing is a list that is read page by page.
type listing[T proto.Message] struct {
	head string // of the table: columns separated by tabs
	// page is at most so many items after a token, and the token of the next page, "" on the last one.
	page func(size int32, token string) (items []T, next string, err error)
	row  func(T) []string
}

const (
	listLimit = 100 // how many items a list shows unless --limit says another number
	largePage = 1000
)

// limited gives a command that prints a list the flag --limit.
func (o *connection) limited(c *cobra.Command) *cobra.Command {
	c.Flags().IntVar(&o.limit, "limit", listLimit, "`N`: show at most so many; 0 is all")
	return c
}

// print writes the list, as a table or as a JSON array, and says on standard error when there is more than the limit.
func (l listing[T]) print(c *cobra.Command, o *connection) error {
	more := false
	var err error
	if o.output == "json" {
		more, err = l.array(c.OutOrStdout(), o.limit)
	} else {
		more, err = l.table(c.OutOrStdout(), o.limit)
	}
	if err == nil && more {
		_, err = fmt.Fprintf(c.ErrOrStderr(), "there are more than these %d: --limit %d shows more, --limit 0 all\n",
			o.limit, 10*o.limit)
	}
	return err
}

// table writes at most limit items as a table, 0 for all; more reports whether there are others.
func (l listing[T]) table(out io.Writer, limit int) (more bool, err error) {
	var table bytes.Buffer
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, l.head)
	more, err = l.each(limit, func(item T) error {
		cells := l.row(item)
		for i, cell := range cells {
			if cells[i] = oneLine(cell, 1<<10); cells[i] == "" {
				cells[i] = "-"
			}
		}
		_, err := fmt.Fprintln(w, strings.Join(cells, "\t"))
		return err
	})
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return false, err
	}
	_, err = io.WriteString(out, fit(table.String(), look(out).width))
	return more, err
}

// fit cuts the lines of a text that are wider than a terminal; width 0 cuts nothing.
func fit(text string, width int) string {
	if width == 0 {
		return text
	}
	var out strings.Builder
	for line := range strings.Lines(text) {
		if runes := []rune(strings.TrimSuffix(line, "\n")); len(runes) > width {
			line = string(runes[:width-1]) + "…\n"
		}
		out.WriteString(line)
	}
	return out.String()
}

func (l listing[T]) array(w io.Writer, limit int) (more bool, err error) {
	first := true
	more, err = l.each(limit, func(item T) error {
		body, err := marshal(item, "  ")
		if err != nil {
			return err
		}
		mark := ",\n"
		if first {
			mark, first = "[\n", false
		}
		_, err = io.WriteString(w, mark+string(body))
		return err
	})
	if err != nil {
		return false, err
	}
	end := "\n]\n"
	if first {
		end = "[]\n"
	}
	_, err = io.WriteString(w, end)
	return more, err
}

// each calls f with at most limit items, 0 for all. more reports whether there are others.
func (l listing[T]) each(limit int, f func(T) error) (more bool, err error) {
	left := limit
	for token := ""; ; {
		size := int32(largePage)
		if limit > 0 {
			size = int32(min(left, largePage))
		}
		items, next, err := l.page(size, token)
		if err != nil {
			return false, err
		}
		for _, item := range items {
			if err := f(item); err != nil {
				return false, err
			}
		}
		if left -= len(items); next == "" || limit > 0 && left <= 0 {
			return next != "", nil
		}
		token = next
	}
}

// field is a line of what get shows.
type field struct{ name, value string }

// printFields writes one item, a line for each field that has a value.
func printFields(w io.Writer, fields ...field) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range fields {
		if f.value == "" {
			continue
		}
		value := strings.TrimRightFunc(cli.Visible(f.value), unicode.IsSpace)
		if _, err := fmt.Fprintf(t, "%s:\t%s\n", f.name, strings.ReplaceAll(value, "\n", "\n\t")); err != nil {
			return err
		}
	}
	return t.Flush()
}

// stamp is a time for people, "" for none.
func stamp(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Local().Format(time.DateTime)
}
