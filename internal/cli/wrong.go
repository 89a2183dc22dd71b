package cli

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// takes is what values of a type of flags look like, for those types that refuse some.
var takes = map[string]string{
	"bool": "true or false", "duration": "a duration such as 90s, 30m or 24h", "float64": "a number",
	"int": "a whole number", "int32": "a whole number", "int64": "a whole number",
	"stringToString": "KEY=VALUE", "stringSlice": "a list with commas between its items",
}

// misread is an error of the library for flags in words for people: what to write, and what may have been meant.
func misread(c *cobra.Command, err error) error {
	var value *pflag.InvalidValueError
	var name *pflag.NotExistError
	switch {
	case errors.As(err, &value):
		return fmt.Errorf("--%s %w", value.GetFlag().Name, wrongValue(value))
	case errors.As(err, &name) && name.GetSpecifiedShortnames() == "":
		var all []string
		c.Flags().VisitAll(func(f *pflag.Flag) { all = append(all, f.Name) })
		if near := nearest(name.GetSpecifiedName(), all); near != "" {
			return fmt.Errorf("%w (did you mean --%s?)", err, near)
		}
	}
	return err
}

// wrongValue says what a flag takes, without its name.
func wrongValue(err *pflag.InvalidValueError) error {
	takes, known := takes[err.GetFlag().Value.Type()]
	switch {
	case errors.Is(err, strconv.ErrRange):
		return fmt.Errorf("is too large a number: %q", err.GetValue())
	case known:
		return fmt.Errorf("is %s, not %q", takes, err.GetValue())
	}
	return fmt.Errorf("cannot be %q: %w", err.GetValue(), err.Unwrap())
}

// CheckPort refuses an address HOST:PORT, the value of a flag, whose port is none. The error has the code Usage.
func CheckPort(flag, addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return WithCode(fmt.Errorf("%s %s: a port is a number from 0 to 65535", flag, addr), Usage)
	}
	return nil
}

// maxSlips is how many letters of a word may be wrong for it to be taken for another one, and a third of them at most.
const maxSlips = 2

// nearest is the word that was probably meant, "" for none.
func nearest(word string, among []string) (found string) {
	fewest := min(maxSlips, len(word)/3) + 1
	for _, one := range among {
		if n := slips(strings.ToLower(word), one); n < fewest {
			found, fewest = one, n
		}
	}
	return found
}

// slips is how many letters have to be added, removed, replaced or swapped with the next one to make b of a.
func slips(a, b string) int {
	from, to := []rune(a), []rune(b)
	rows := make([][]int, len(from)+1)
	for i := range rows {
		rows[i] = make([]int, len(to)+1)
		rows[i][0] = i
	}
	for j := range to {
		rows[0][j+1] = j + 1
		for i := range from {
			changed := rows[i][j]
			if from[i] != to[j] {
				changed++
			}
			n := min(changed, rows[i][j+1]+1, rows[i+1][j]+1)
			if i > 0 && j > 0 && from[i] == to[j-1] && from[i-1] == to[j] {
				n = min(n, rows[i-1][j-1]+1)
			}
			rows[i+1][j+1] = n
		}
	}
	return rows[len(from)][len(to)]
}
