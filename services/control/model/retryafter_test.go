package model_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
)

const date = "Mon, 02 Jan 2006 15:04:05 GMT"

func TestRetryAfter(t *testing.T) {
	const later = "Mon, 02 Jan 2006 15:05:35 GMT"
	for name, c := range map[string]struct {
		header map[string]string
		want   time.Duration
	}{
		"nothing":   {nil, 0},
		"seconds":   {map[string]string{"Retry-After": "30"}, 30 * time.Second},
		"fractions": {map[string]string{"Retry-After": " 1.5 "}, 1500 * time.Millisecond},
		"milliseconds win": {
			map[string]string{"Retry-After": "30", "Retry-After-Ms": "250"},
			250 * time.Millisecond,
		},
		"Azure's milliseconds":  {map[string]string{"X-Ms-Retry-After-Ms": "1500"}, 1500 * time.Millisecond},
		"a day":                 {map[string]string{"Retry-After": "86400"}, 24 * time.Hour},
		"a date":                {map[string]string{"Retry-After": later, "Date": date}, 90 * time.Second},
		"a date that is past":   {map[string]string{"Retry-After": date, "Date": later}, 0},
		"a date, no clock":      {map[string]string{"Retry-After": "Mon, 02 Jan 2099 15:05:35 GMT"}, 0},
		"a date, a wrong clock": {map[string]string{"Retry-After": later, "Date": "yesterday"}, 0},
		"zero":                  {map[string]string{"Retry-After": "0"}, 0},
		"below zero":            {map[string]string{"Retry-After": "-5"}, 0},
		"not a number":          {map[string]string{"Retry-After": "NaN"}, 0},
		"infinite":              {map[string]string{"Retry-After": "Inf"}, 365 * 24 * time.Hour},
		"huge":                  {map[string]string{"Retry-After": "1e300"}, 365 * 24 * time.Hour},
		"text":                  {map[string]string{"Retry-After": "soon"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := http.Header{}
			for k, v := range c.header {
				h.Set(k, v)
			}
			if got := model.RetryAfter(h); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("17")
	f.Add("1e300")
	f.Add("Sat, 01 Jan 2000 00:00:30 GMT")
	f.Fuzz(func(t *testing.T, v string) {
		if d := model.RetryAfter(http.Header{"Retry-After": {v}, "Date": {date}}); d < 0 {
			t.Errorf("%q is %s", v, d)
		}
	})
}
