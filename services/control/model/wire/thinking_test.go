package wire

import "testing"

func TestClamp(t *testing.T) {
	for _, tt := range []struct {
		want string
		has  []string
		got  string
	}{
		{"low", []string{"low", "high"}, "low"},
		{"medium", []string{"low", "high"}, "high"},
		{"xhigh", []string{"low", "high"}, "high"},
		{"none", []string{"low"}, "low"},
		{"unheard", []string{"low"}, "low"},
		{"low", nil, ""},
	} {
		if got := clamp(tt.want, tt.has); got != tt.got {
			t.Errorf("%s of %v is %q, want %q", tt.want, tt.has, got, tt.got)
		}
	}
}
