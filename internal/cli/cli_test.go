package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestFromEnvironment(t *testing.T) {
	t.Setenv("PAWL_BOTH_WAYS", "from the environment")
	t.Setenv("PAWL_LEFT_OUT", "from the environment")
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	both, left, none := f.String(
		"both-ways",
		"default",
		"usage",
	), f.String(
		"left-out",
		"default",
		"usage",
	), f.String(
		"neither",
		"default",
		"usage",
	)
	NameVariables(f)
	if err := f.Parse([]string{"--both-ways", "given"}); err != nil {
		t.Fatal(err)
	}
	if err := FromEnvironment(f); err != nil {
		t.Fatal(err)
	}
	if *both != "given" || *left != "from the environment" || *none != "default" {
		t.Errorf("%q %q %q", *both, *left, *none)
	}
	if usage := f.Lookup("left-out").Usage; usage != "usage [PAWL_LEFT_OUT]" {
		t.Errorf("usage %q", usage)
	}

	t.Setenv("PAWL_SLOTS", "many")
	f.Int("slots", 1, "usage")
	if err := FromEnvironment(f); Code(err) != Usage || err.Error() != `PAWL_SLOTS is a whole number, not "many"` {
		t.Errorf("a variable that is no number: %v", err)
	}
}

func TestLogger(t *testing.T) {
	for format, want := range map[string]string{
		"text": "level=DEBUG msg=hello\n", "json": `"level":"DEBUG","msg":"hello"}` + "\n",
	} {
		var b strings.Builder
		log, err := Logger(&b, format, "debug", nil)
		if err != nil {
			t.Fatal(err)
		}
		if log.Debug("hello"); !strings.HasSuffix(b.String(), want) {
			t.Errorf("%s: %q", format, b.String())
		}
	}
	if _, err := Logger(nil, "text", "loud", nil); err == nil || !strings.Contains(err.Error(), `"loud"`) {
		t.Errorf("a level that there is not: %v", err)
	}
	if _, err := Logger(nil, "xml", "info", nil); err == nil || !strings.Contains(err.Error(), `"xml"`) {
		t.Errorf("a format that there is not: %v", err)
	}
}

func TestComplain(t *testing.T) {
	var b strings.Builder
	Complain(&b, "program", errors.Join(errors.New("one"), errors.New("two\n")))
	if b.String() != "program: one\nprogram: two\n" {
		t.Errorf("%q", b.String())
	}
}
