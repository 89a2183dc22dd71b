package auth

import (
	"errors"
	"strings"
	"testing"
)

func TestLabels(t *testing.T) {
	t.Parallel()
	allowed := Labels{"gpu": "a100", "zone": "eu-*", "any": "*", "mid": "a*b*c"}
	for name, c := range map[string]struct {
		allowed Labels
		claimed map[string]string
		refused string // the label, "" for none
	}{
		"none":                   {nil, nil, ""},
		"none of those":          {allowed, nil, ""},
		"exact":                  {allowed, map[string]string{"gpu": "a100"}, ""},
		"a pattern":              {allowed, map[string]string{"zone": "eu-west-1"}, ""},
		"an empty rest":          {allowed, map[string]string{"zone": "eu-"}, ""},
		"any value":              {allowed, map[string]string{"any": "whatever * it is"}, ""},
		"two stars":              {allowed, map[string]string{"mid": "a b b c"}, ""},
		"all":                    {allowed, map[string]string{"gpu": "a100", "zone": "eu-1", "any": "x"}, ""},
		"one without a token's":  {nil, map[string]string{"gpu": "a100"}, "gpu=a100"},
		"another value":          {allowed, map[string]string{"gpu": "a1000"}, "gpu=a1000"},
		"another case":           {allowed, map[string]string{"gpu": "A100"}, "gpu=A100"},
		"another key":            {allowed, map[string]string{"gpu2": "a100"}, "gpu2=a100"},
		"not the pattern":        {allowed, map[string]string{"zone": "us-eu-1"}, "zone=us-eu-1"},
		"two stars that overlap": {allowed, map[string]string{"mid": "abc", "any": "x"}, ""},
		"two stars, one missing": {allowed, map[string]string{"mid": "ac"}, "mid=ac"},
		"a star is a character":  {allowed, map[string]string{"gpu": "*"}, "gpu=*"},
		"one of two":             {allowed, map[string]string{"gpu": "a100", "zone": "us"}, "zone=us"},
	} {
		err := c.allowed.Allow(c.claimed)
		if c.refused == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.refused != "" && (!errors.Is(err, ErrLabels) || !strings.Contains(err.Error(),
			c.refused+"; it allows "+c.allowed.String()+":")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
