package hook

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/podnic/podnic/test/libvirtd"
	"github.com/podnic/podnic/test/pod"
)

const document = "../../docs/libvirt-hook.md"

// TestDocumentedCommands runs what docs/libvirt-hook.md promises: from an empty container with libvirt to a guest with the
// pod's address in six commands, as they are written.
func TestDocumentedCommands(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	commands := steps(string(text))
	if len(commands) != 6 {
		t.Fatalf("the document has %d commands, not six: %q", len(commands), commands)
	}

	s := newSite(t, hold)
	for from, to := range map[string]string{s.image.Kernel: "kernel", s.image.Initrd: "initrd"} {
		s.must("install", "-D", "-m", "0644", from, "/var/lib/libvirt/images/"+to)
	}
	s.shell(configuration(t, string(text)))

	for i, command := range commands {
		out := s.shell(command)
		t.Logf("%d  %s\n%s", i+1, command, out)
	}
	s.hello()
	got, err := s.client().Run(t.Context(), "cat /sys/class/net/eth0/address; hostname")
	if want := s.MAC.String() + "\nvm-0\n"; err != nil || got != want {
		t.Errorf("the guest is %q, want %q (%v)", got, want, err)
	}
	s.shell("virsh destroy vm")
	s.asBefore()
}

// hold makes the container: the namespaces of a daemon that does not run yet.
func hold(t testing.TB, p *pod.Pod) *libvirtd.Daemon {
	t.Helper()
	daemon, err := libvirtd.Hold(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := daemon.Close(); err != nil {
			t.Error(err)
		}
	})
	return daemon
}

// shell runs a command in the container, with podnic in its PATH.
func (s *site) shell(command string) string {
	s.T.Helper()
	dir := filepath.Dir(s.image.Initrd)
	// In a file, since a daemon would keep a pipe open.
	output := filepath.Join(dir, "output")
	script := "cd " + dir + "\nexport PATH=" + filepath.Dir(s.Podnic) + ":$PATH\n{\n" + command + "\n} >" + output + " 2>&1\n"
	_, stderr, status := s.run("sh", "-e", "-c", script)
	said, err := os.ReadFile(output)
	if err != nil || status != 0 {
		s.T.Fatalf("%s\nexit status %d: %s%s (%v)", command, status, said, stderr, err)
	}
	return string(said)
}

// steps are the commands of the document's numbered list: the blocks that are indented under its items.
func steps(text string) []string {
	const indent = "       "
	_, list, _ := strings.Cut(text, "\n1. ")
	list, _, _ = strings.Cut("1. "+list, "\n## ")
	var commands []string
	inside := false
	for line := range strings.Lines(list) {
		switch rest, indented := strings.CutPrefix(line, indent); {
		case indented && !inside:
			commands = append(commands, rest)
			inside = true
		case indented:
			commands[len(commands)-1] += rest
		default:
			inside = false
		}
	}
	return commands
}

// configuration is what the document's image runs to configure the daemon.
func configuration(t *testing.T, text string) string {
	t.Helper()
	const begin = "    RUN mkdir "
	_, rest, found := strings.Cut(text, begin)
	if !found {
		t.Fatal("the document's image does not configure the daemon")
	}
	command, _, _ := strings.Cut(rest, "\n    COPY ")
	return "mkdir " + command
}
