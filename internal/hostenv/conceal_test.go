package hostenv

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain makes this program a process that has a secret, for TestConceal.
func TestMain(m *testing.M) {
	if os.Getenv("PAWL_TEST_CONCEAL") != "" {
		if err := Conceal(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(os.Getenv("PAWL_TEST_CONCEAL")) // it still has it
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// The kernel shows nothing of a concealed process's environment, not to root either, and it is not dumpable.
func TestConceal(t *testing.T) {
	const secret = "sk-a-key-of-a-provider"
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "PAWL_TEST_CONCEAL="+secret, "PATH=/usr/bin")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 100)
	n, err := out.Read(said)
	if got := strings.TrimSpace(string(said[:n])); err != nil || got != secret {
		t.Errorf("it says %q, %v", got, err)
	}
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", cmd.Process.Pid))
	if err == nil && len(bytes.Trim(env, "\x00")) > 0 || err != nil && !os.IsPermission(err) {
		t.Errorf("the kernel shows %q, %v", env, err)
	}
	// Who is not dumpable has files in /proc that are root's, whoever it runs as; where that is root nothing shows it.
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/environ", cmd.Process.Pid), &st); err != nil || st.Uid != 0 {
		t.Errorf("its environment is a file of user %d, %v", st.Uid, err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
