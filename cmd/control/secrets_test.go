package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// nobody is a user without privileges, which tests run control as when they are root.
const nobody = 65534

// A command of an agent runs as the same user as control. Control's keys do not reach it: not by the environment or the
// memory of control or of the keeper, and not by the file tools, which run in control's process.
func TestKeysStayInControl(t *testing.T) {
	const key = "sk-ant-key-that-stays"
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	data, root := filepath.Join(dir, "data"), filepath.Join(dir, "root")
	for _, d := range []string{data, root} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.CommandContext(t.Context(), "/proc/self/exe",
		"--data", data, "--root", root, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
	c.Env = append(os.Environ(), asProgram+"=1", "ANTHROPIC_API_KEY="+key, "HOME="+root)
	c.Dir = root
	if os.Geteuid() == 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		for _, d := range []string{dir, data, root} {
			if err := os.Chown(d, nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Wait() }) // the signal that ends it is its error
	for lines := bufio.NewScanner(out); lines.Scan() && !strings.HasPrefix(lines.Text(), "Try it"); {
	}
	control := c.Process.Pid
	for _, line := range []string{
		"cat /proc/%d/environ", "cat /proc/%d/maps", "head -c 1 /proc/%d/mem", "ls /proc/%d/fd",
		"cat /proc/$PPID/environ", "cat /proc/$PPID/maps", "head -c 1 /proc/$PPID/mem",
	} {
		line = strings.ReplaceAll(line, "%d", fmt.Sprint(control))
		got, _ := answer(t, data, "shell", line+" >out 2>err; grep -c . out; grep -o 'Permission denied' err | sort -u")
		if got != "0\nPermission denied" && got != "0\nPermission denied\n\nCommand exited with code 1" {
			t.Errorf("%s: %q", line, got)
		}
	}
	got, _ := answer(t, data, "shell", "env; tr '\\0' '\\n' </proc/self/environ")
	if !strings.Contains(got, "PAWL_CALL_ID=") || strings.Contains(got, key) || strings.Contains(got, "ANTHROPIC") {
		t.Errorf("a command's environment: %q", got)
	}
	for _, path := range []string{
		"/proc/self/environ", "/proc/%d/environ", "/proc/%d/maps", "link/environ", "/proc/%d/fd/3",
	} {
		answer(t, data, "shell", "ln -sfn /proc/self link")
		path = strings.ReplaceAll(path, "%d", fmt.Sprint(control))
		got, _ := answer(t, data, "shell", `tool read: {"path": "`+path+`"}`)
		refused := strings.Contains(got, "own process") || strings.Contains(got, "link of the kernel") ||
			strings.Contains(got, "permission denied")
		if strings.Contains(got, key) || !refused {
			t.Errorf("read %s: %q", path, got)
		}
		got, _ = answer(t, data, "shell", `tool grep: {"pattern": "sk-ant", "path": "`+path+`"}`)
		if strings.Contains(got, key) {
			t.Errorf("grep %s: %q", path, got)
		}
	}
	// Root reads any memory, and yet not the environment.
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", control))
	if strings.Contains(string(env), key) || err != nil && !os.IsPermission(err) {
		t.Errorf("the kernel shows control's environment: %q, %v", env, err)
	}
}
