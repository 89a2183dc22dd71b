package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Unit of a Quantity.
type Unit string

// Units.
const (
	Seconds   Unit = "s"
	Bytes     Unit = "B"
	PerSecond Unit = "/s"
	Count     Unit = "1"
)

// Quantity is a number with its unit. The zero value is none.
type Quantity struct {
	Value float64 `json:"value"`
	Unit  Unit    `json:"unit"`
}

func took(d time.Duration) Quantity     { return Quantity{d.Seconds(), Seconds} }
func bytes[N int | int64](n N) Quantity { return Quantity{float64(n), Bytes} }
func perSecond(n float64) Quantity      { return Quantity{n, PerSecond} }

// rate is how often something happened in a time.
func rate[N int | int64](n N, in time.Duration) Quantity { return perSecond(float64(n) / in.Seconds()) }

// String is the quantity with three digits that count.
func (q Quantity) String() string {
	switch q.Unit {
	case Seconds:
		switch v := math.Abs(q.Value); {
		case v == 0:
			return "0"
		case v < 1e-3:
			return digits(q.Value*1e6) + " µs"
		case v < 1:
			return digits(q.Value*1e3) + " ms"
		default:
			return digits(q.Value) + " s"
		}
	case Bytes:
		switch v := math.Abs(q.Value); {
		case v < 10_000:
			return digits(q.Value) + " B"
		case v < 1e6:
			return digits(q.Value/1e3) + " kB"
		default:
			return digits(q.Value/1e6) + " MB"
		}
	case PerSecond:
		return digits(q.Value) + "/s"
	case Count:
		return digits(q.Value)
	default:
		return ""
	}
}

// digits rounds to three digits that count; of whole numbers all are shown, in groups.
func digits(v float64) string {
	switch a := math.Abs(v); {
	case a == math.Trunc(a) && a < 1000:
		return fmt.Sprintf("%.0f", v)
	case a < 9.995:
		return fmt.Sprintf("%.2f", v)
	case a < 99.95:
		return fmt.Sprintf("%.1f", v)
	}
	text := fmt.Sprintf("%.0f", math.Abs(v))
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	if v < 0 {
		return "-" + text
	}
	return text
}

// quantile is the nearest-rank quantile of values, which it sorts: at least the share p of them are no greater.
func quantile[T int64 | float64 | time.Duration](values []T, p float64) T {
	if len(values) == 0 {
		var none T
		return none
	}
	slices.Sort(values)
	rank := int(math.Ceil(p * float64(len(values))))
	return values[min(max(rank, 1), len(values))-1]
}

// timed is a row's p50 and p99 of times.
func timed(r Row, times []time.Duration) Row {
	if len(times) > 0 {
		r.P50, r.P99 = took(quantile(times, 0.5)), took(quantile(times, 0.99))
	}
	return r
}
