package crashtest_test

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// repository is the top of the tree, from here.
const repository = "../../"

// composition is what docker-compose.yaml may say. What is not here is refused: the test would not know what it means.
type composition struct {
	Name               string             `yaml:"name"`
	Hardened           any                `yaml:"x-hardened"`
	Control            any                `yaml:"x-control"`
	Replica            any                `yaml:"x-replica"`
	ReplicaEnvironment any                `yaml:"x-replica-environment"`
	Services           map[string]service `yaml:"services"`
	Networks           map[string]any     `yaml:"networks"`
	Volumes            map[string]any     `yaml:"volumes"`
}

type service struct {
	running `yaml:",inline"`
	place   `yaml:",inline"`
}

// running is what a service is and when it runs.
type running struct {
	Image       string            `yaml:"image"`
	Build       *build            `yaml:"build"`
	Entrypoint  []string          `yaml:"entrypoint"`
	Command     []string          `yaml:"command"`
	Environment map[string]string `yaml:"environment"`
	DependsOn   map[string]struct {
		Condition string `yaml:"condition"`
	} `yaml:"depends_on"`
	Healthcheck struct {
		Test     []string      `yaml:"test"`
		Interval time.Duration `yaml:"interval"`
		Timeout  time.Duration `yaml:"timeout"`
		Start    time.Duration `yaml:"start_period"`
	} `yaml:"healthcheck"`
	Restart string        `yaml:"restart"`
	Grace   time.Duration `yaml:"stop_grace_period"`
	Init    bool          `yaml:"init"`
}

// place is where a service runs, and what it may do there.
type place struct {
	User        string   `yaml:"user"`
	ReadOnly    bool     `yaml:"read_only"`
	CapDrop     []string `yaml:"cap_drop"`
	SecurityOpt []string `yaml:"security_opt"`
	Networks    []string `yaml:"networks"`
	NetworkMode string   `yaml:"network_mode"`
	Ports       []string `yaml:"ports"`
	Volumes     []string `yaml:"volumes"`
	Tmpfs       []string `yaml:"tmpfs"`
	ShmSize     string   `yaml:"shm_size"`
}

type build struct {
	Context    string `yaml:"context"`
	Dockerfile string `yaml:"dockerfile"`
	Target     string `yaml:"target"`
}

// mount is a volume or a directory at a place in a container.
type mount struct {
	source, target string
	readOnly       bool
}

func (s service) mounts(t *testing.T) (all []mount) {
	t.Helper()
	for _, v := range s.Volumes {
		part := strings.Split(v, ":")
		if len(part) < 2 || len(part) > 3 || !strings.HasPrefix(part[1], "/") || len(part) == 3 && part[2] != "ro" {
			t.Fatalf("volume %q", v)
		}
		all = append(all, mount{part[0], part[1], len(part) == 3})
	}
	// The innermost place of a path is where its file is.
	slices.SortFunc(all, func(a, b mount) int { return len(b.target) - len(a.target) })
	return all
}

// ours reports whether a service runs one of Pawl's programs.
func (s service) ours() bool { return s.Build != nil }

// once reports whether a service runs to its end.
func (c composition) once(name string) bool {
	for _, s := range c.Services {
		if s.DependsOn[name].Condition == "service_completed_successfully" {
			return true
		}
	}
	return false
}

func readComposition(t *testing.T) (c composition) {
	t.Helper()
	text, err := os.ReadFile(repository + "docker-compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

// drain is how long control may need to end: what is under way gets 20 s, and the rest a moment.
const drain = 25 * time.Second

// What cannot be run without Docker is read: places, users, policies.
func TestComposition(t *testing.T) {
	c := readComposition(t)
	image, err := os.ReadFile(repository + "deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range c.Services {
		all := slices.Concat(c.faults(name, s), s.faultsOfImage(t, string(image)), c.faultsOfMounts(t, s))
		for _, fault := range all {
			t.Errorf("%s: %s", name, fault)
		}
	}
	for _, want := range []string{"postgres", "control-a", "control-b", "executor"} {
		if _, ok := c.Services[want]; !ok {
			t.Errorf("there is no service %s", want)
		}
	}
}

func (c composition) faults(name string, s service) (faults []string) {
	fault := func(wrong bool, format string, args ...any) {
		if wrong {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	fault(c.once(name) == (s.Restart != ""), "restart %q", s.Restart)
	fault(!c.once(name) && s.Grace == 0, "it has no stop_grace_period")
	fault(s.Image == "pawl-control" && !c.once(name) && s.Grace < drain, "stop_grace_period is %v", s.Grace)
	fault(s.ours() && (s.User != "65532:65532" || !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"})),
		"it may do too much")
	for of, on := range s.DependsOn {
		target, ok := c.Services[of]
		fault(!ok, "it depends on %s", of)
		fault(on.Condition == "service_healthy" && target.Healthcheck.Test == nil, "%s has no health check", of)
	}
	for _, n := range s.Networks {
		_, ok := c.Networks[n]
		fault(!ok, "network %s", n)
	}
	for _, p := range s.Ports {
		fault(!regexp.MustCompile(`^127\.0\.0\.1:\d+:\d+$`).MatchString(p), "port %s is not on loopback", p)
	}
	for variable, value := range s.Environment {
		secret := regexp.MustCompile(`(TOKEN|PASSWORD|KEY|SECRET)$`).MatchString(variable)
		fault(secret && !strings.HasPrefix(value, "/"), "%s is a secret's value", variable)
	}
	return faults
}

// faultsOfImage compares with the image: what is mounted into a directory that it does not have belongs to root.
func (s service) faultsOfImage(t *testing.T, dockerfile string) (faults []string) {
	t.Helper()
	if !s.ours() {
		return nil
	}
	_, stage, ok := strings.Cut(dockerfile, " AS "+s.Build.Target+"\n")
	if stage, _, _ = strings.Cut(stage, "\nFROM "); !ok || s.Build.Dockerfile != "deploy/Dockerfile" ||
		s.Build.Context != "." || s.Image != "pawl-"+s.Build.Target {
		return []string{fmt.Sprintf("the image %s is not built: %+v", s.Image, s.Build)}
	}
	if !strings.Contains(stage, "USER "+s.User+"\n") {
		faults = append(faults, "the image is of another user")
	}
	for _, m := range s.mounts(t) {
		if !regexp.MustCompile(`/root-` + s.Build.Target + m.target + `\s`).MatchString(dockerfile) {
			faults = append(faults, "the image has no directory "+m.target)
		}
	}
	if test := s.Healthcheck.Test; len(test) > 0 && !strings.Contains(stage, fmt.Sprintf("ENTRYPOINT [%q]", test[1])) {
		faults = append(faults, fmt.Sprintf("the image has no program %q", test[1:]))
	}
	return faults
}

func (c composition) faultsOfMounts(t *testing.T, s service) (faults []string) {
	t.Helper()
	for _, m := range s.mounts(t) {
		if _, ok := c.Volumes[m.source]; !ok && !strings.HasPrefix(m.source, "./") {
			faults = append(faults, "there is no volume "+m.source)
		}
		for other, o := range c.Services {
			for _, shared := range o.mounts(t) {
				secret := slices.Contains([]string{"authority", "executor-token", "certificate", "trust"}, m.source)
				if secret && shared.source == m.source && !shared.readOnly && !c.once(other) {
					faults = append(faults, other+" can write to "+m.source)
				}
			}
		}
	}
	return faults
}
