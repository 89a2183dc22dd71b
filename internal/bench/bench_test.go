package main

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	hundred := make([]int64, 100)
	for i := range hundred {
		hundred[i] = int64(100 - i)
	}
	tests := []struct {
		values []int64
		p      float64
		want   int64
	}{
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
		{hundred, 0, 1},
		{[]int64{3, 1, 2}, 0.5, 2},
		{[]int64{3, 1, 2}, 0.99, 3},
		{[]int64{1, 2}, 0.5, 1},
		{[]int64{7}, 0.01, 7},
		{nil, 0.5, 0},
	}
	for _, tt := range tests {
		if got := quantile(tt.values, tt.p); got != tt.want {
			t.Errorf("quantile(%v of %d values) = %d, want %d", tt.p, len(tt.values), got, tt.want)
		}
	}
}

func TestQuantityString(t *testing.T) {
	tests := map[string]Quantity{
		"":            {},
		"0":           {0, Seconds},
		"12.3 µs":     {12.3e-6, Seconds},
		"1.23 ms":     {1.234e-3, Seconds},
		"-1.23 ms":    {-1.234e-3, Seconds},
		"250 ms":      {0.25, Seconds},
		"1.50 s":      {1.5, Seconds},
		"241 B":       {241, Bytes},
		"40.5 MB":     {40.5e6, Bytes},
		"12.0 kB":     {12_000.4, Bytes},
		"1,234,567/s": {1_234_567.2, PerSecond},
		"99.9/s":      {99.94, PerSecond},
		"100/s":       {99.95, PerSecond},
		"-1,500":      {-1500, Count},
	}
	for want, q := range tests {
		if got := q.String(); got != want {
			t.Errorf("%v = %q, want %q", q.Value, got, want)
		}
	}
}

func TestGoals(t *testing.T) {
	ms := func(n int) Quantity { return took(time.Duration(n) * time.Millisecond) }
	tests := []struct {
		name             string
		row              Row
		ratio, goal, met string
	}{
		{"no goal, no floor", Row{P50: ms(5)}, "", "", ""},
		{"a time within", Row{P50: ms(5), Floor: ms(2), Goal: most(P50, 0.005)}, "2.50×", "p50 ≤ 5 ms", "yes"},
		{"a time beyond", Row{P50: ms(6), Goal: most(P50, 0.005)}, "", "p50 ≤ 5 ms", "no"},
		{"p99", Row{P50: ms(1), P99: ms(9), Goal: most(P99, 0.005)}, "", "p99 ≤ 5 ms", "no"},
		{
			"over the floor within",
			Row{P50: ms(5), Floor: ms(2), Goal: most(Over, 0.003)},
			"2.50×",
			"p50 ≤ floor + 3 ms", "yes (3 ms)",
		},
		{
			"over the floor beyond",
			Row{P50: ms(6), Floor: ms(2), Goal: most(Over, 0.003)},
			"3×", "p50 ≤ floor + 3 ms",
			"no (4 ms)",
		},
		{
			"a rate within",
			Row{P50: ms(1), Rate: perSecond(500), Floor: perSecond(1000), Goal: least(Rate, 400)},
			"0.50×", "rate ≥ 400/s", "yes",
		},
		{"a rate beyond", Row{Rate: perSecond(300), Goal: least(Rate, 400)}, "", "rate ≥ 400/s", "no"},
		{"a ratio", Row{P50: ms(6), Floor: ms(2), Goal: most(Ratio, 2.5)}, "3×", "ratio ≤ 2.50×", "no"},
		{"a goal without its measure", Row{P50: ms(6), Goal: least(Rate, 1)}, "", "", ""},
		{"a ratio without a floor", Row{P50: ms(6), Goal: most(Ratio, 1)}, "", "", ""},
		{"a floor of something else", Row{P50: ms(6), Floor: bytes(3), Goal: most(Over, 1)}, "", "", ""},
	}
	for _, tt := range tests {
		c := tt.row.cells()
		if c[6] != tt.ratio || c[7] != tt.goal || c[8] != tt.met {
			t.Errorf("%s: ratio %q, goal %q, met %q; want %q, %q, %q", tt.name, c[6], c[7], c[8], tt.ratio, tt.goal,
				tt.met)
		}
	}
}

var someRows = []Row{
	{What: "4 KiB append and fsync", P50: Quantity{0.0003, Seconds}},
	{
		Database: "sqlite", What: "a|b", P50: Quantity{0.002, Seconds}, Floor: Quantity{0.001, Seconds},
		Goal: most(P50, 0.003),
	},
}

func TestTable(t *testing.T) {
	var b strings.Builder
	if err := writeTable(&b, table(someRows, nil)); err != nil {
		t.Fatal(err)
	}
	want := `database  what                       p50  p99  rate  floor  ratio  goal        met
          4 KiB append and fsync  300 µs
sqlite    a|b                       2 ms              1 ms     2×  p50 ≤ 3 ms  yes
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestMarkdown(t *testing.T) {
	var b strings.Builder
	if err := writeMarkdown(&b, table(someRows, nil)); err != nil {
		t.Fatal(err)
	}
	want := `| database | what                   |    p50 | p99 | rate | floor | ratio | goal       | met |
|----------|------------------------|-------:|----:|-----:|------:|------:|------------|-----|
|          | 4 KiB append and fsync | 300 µs |     |      |       |       |            |     |
| sqlite   | a\|b                   |   2 ms |     |      |  1 ms |    2× | p50 ≤ 3 ms | yes |
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestBetweenMarks(t *testing.T) {
	got, err := between("head\n"+beginMark+"\nold\n"+endMark+"\nfoot\n", "new\n")
	if want := "head\n" + beginMark + "\nnew\n" + endMark + "\nfoot\n"; err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	for _, bad := range []string{"", beginMark, endMark + beginMark} {
		if _, err := between(bad, ""); err == nil {
			t.Errorf("%q has no marks, and that was no error", bad)
		}
	}
}

func TestChosen(t *testing.T) {
	all := []measurement{{name: "floors", databases: nowhere}, {name: "tools", databases: onDisk}}
	for only, want := range map[string]string{
		"": "floors tools/sqlite tools/postgres", "^tools$": "", "tools": "tools/sqlite tools/postgres", "/sqlite": "tools/sqlite", "floors": "floors",
	} {
		var got []string
		for _, j := range chosen(all, regexp.MustCompile(only)) {
			got = append(got, j.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q chooses %v, want %s", only, got, want)
		}
	}
}

func TestParseKilobytes(t *testing.T) {
	const status = "Name:\tcontrol\nVmHWM:\t   57204 kB\nVmRSS:\t   40000 kB\n"
	if n, err := parseKilobytes(status, "VmRSS"); n != 40000*1024 || err != nil {
		t.Error(n, err)
	}
	if _, err := parseKilobytes(status, "Rss"); err == nil {
		t.Error("a figure that is not there was found")
	}
}

func TestParseTicks(t *testing.T) {
	const stat = "4711 (a) b) S 1 4711 4711 0 -1 4194560 2 0 0 0 150 25 7 9 20 0 9 0 1 2 3"
	own, ended, err := parseTicks(stat)
	if own != 1750*time.Millisecond || ended != 160*time.Millisecond || err != nil {
		t.Error(own, ended, err)
	}
	if _, _, err := parseTicks("4711 (a) S 1"); err == nil {
		t.Error("times that are not there were found")
	}
}
