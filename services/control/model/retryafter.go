package model

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// RetryAfter is how long an answer with these headers asks to wait; 0 when it does not say. A date is compared with the
// answer's own Date, because the provider's clock need not agree with ours; without a Date it says nothing.
func RetryAfter(h http.Header) time.Duration {
	if wait := seconds(h.Get("Retry-After-Ms"), time.Millisecond); wait > 0 {
		return wait
	}
	value := strings.TrimSpace(h.Get("Retry-After"))
	if wait := seconds(value, time.Second); wait > 0 {
		return wait
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return max(at.Sub(now), 0)
}

// seconds reads a positive number of units; 0 for anything else.
func seconds(value string, unit time.Duration) time.Duration {
	n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || math.IsNaN(n) || n <= 0 {
		return 0
	}
	const longest = 365 * 24 * time.Hour
	return time.Duration(min(n*float64(unit), float64(longest)))
}
