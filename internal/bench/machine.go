package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// Machine tells where, when and of what figures are.
type Machine struct {
	Date   string `json:"date"`
	Commit string `json:"commit"`
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Memory int64  `json:"memory"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
}

// thisRun is this machine and this commit, as far as they can be told.
func thisRun() Machine {
	m := Machine{
		Date: time.Now().UTC().Format(time.DateOnly), Commit: output("git", "describe", "--always", "--dirty",
			"--abbrev=12"),
		CPU: "unknown CPU", CPUs: runtime.NumCPU(), Kernel: kernel(output("uname", "-sr")), Go: runtime.Version(),
	}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		m.CPU = field(string(info), "model name", m.CPU)
	}
	if info, err := os.ReadFile("/proc/meminfo"); err == nil {
		m.Memory, _ = parseKilobytes(string(info), "MemTotal") // 0 is unknown
	}
	return m
}

func (m Machine) String() string {
	return fmt.Sprintf("%s, commit %s, %d × %s, %.0f GiB, %s, %s", m.Date, m.Commit, m.CPUs, m.CPU,
		float64(m.Memory)/(1<<30), m.Kernel, m.Go)
}

// kernel leaves out what only its builder knows: "Linux 6.18.44-x" is Linux 6.18.
func kernel(name string) string {
	parts := strings.SplitN(name, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

func output(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// field is the value of the first line "name : value".
func field(text, name, otherwise string) string {
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return otherwise
}
