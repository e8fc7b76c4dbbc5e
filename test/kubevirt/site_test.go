// Package kubevirt tests the sidecar as KubeVirt runs it: the built programs, as the launcher's user and with no
// capability, in a pod that a real CNI plugin made and that a stand-in for KubeVirt's node agent wires, asked by a stand-in
// for its launcher in the order in which that asks, with real guests under a real libvirtd.
package kubevirt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// patience bounds each wait for something that takes seconds on a quiet machine.
const patience = 90 * time.Second

// launcherUser is the user that KubeVirt's launcher and its sidecars run as.
const launcherUser = 107

// plugin is the name under which the binding is registered.
const plugin = "podnic-binding"

// site is a launcher pod on a node, and the directory that its containers share.
type site struct {
	t     *testing.T
	node  *pod.Node
	pod   *pod.Pod
	hooks string
	shm   string // what all containers of a pod share
}

func newSite(t *testing.T, network pod.Network) *site {
	t.Helper()
	podtest.NeedRoot(t)
	s := &site{t: t, node: podtest.Node(t), hooks: t.TempDir(), shm: t.TempDir()}
	if err := os.Chmod(s.shm, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	s.pod = podtest.Pod(t, s.node, pod.Spec{Name: "launcher", Hostname: "vm-0", Network: network})
	return s
}

// in runs a shell script in a namespace, whose links it sees in /sys.
func (s *site) in(n *pod.Namespace, script string) string {
	s.t.Helper()
	out, err := n.Output(s.t.Context(), "unshare", "--mount", "sh", "-e", "-c", "mount -t sysfs sysfs /sys\n"+script)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// launcher is that of the pod.
func (s *site) launcher() *launcher { return &launcher{t: s.t, dir: s.hooks} }

// container is a sidecar container of the pod.
type container struct {
	site *site
	name string
	part string // its part of the hook directory
	cmd  *exec.Cmd
	done chan struct{}
	mu   sync.Mutex
	log  strings.Builder
	news chan struct{} // closed and replaced when the log grows
}

func (c *container) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.news)
	c.news = make(chan struct{})
	return c.log.Write(b)
}

// says waits until the log has a text.
func (c *container) says(text string) {
	c.site.t.Helper()
	timeout := time.After(patience)
	for {
		c.mu.Lock()
		said, news := strings.Contains(c.log.String(), text), c.news
		c.mu.Unlock()
		if said {
			return
		}
		select {
		case <-news:
		case <-c.done:
			c.site.t.Fatalf("the sidecar %s ended and did not say %q", c.name, text)
		case <-timeout:
			c.site.t.Fatalf("the sidecar %s does not say %q", c.name, text)
		}
	}
}

func (c *container) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.String()
}

// command prepares podnic as a program of the container.
func (c *container) command(ctx context.Context, args ...string) *exec.Cmd {
	c.site.t.Helper()
	script, err := filepath.Abs("testdata/container")
	if err != nil {
		c.site.t.Fatal(err)
	}
	programs := filepath.Dir(podtest.Program(c.site.t))
	return c.site.pod.Command(ctx, script, append([]string{fmt.Sprint(launcherUser), programs, c.part, c.site.shm}, args...)...)
}

// sidecar starts a sidecar container. One of the name that ran before leaves it what was in the shared directory.
func (s *site) sidecar(name, plugin string, args ...string) *container {
	s.t.Helper()
	return s.container(name, []string{"CONTAINER_NAME=" + name, "NETWORK_BINDING_PLUGIN_NAME=" + plugin}, args...)
}

// container starts a sidecar with what KubeVirt tells it.
func (s *site) container(name string, env []string, args ...string) *container {
	s.t.Helper()
	c := &container{site: s, name: name, part: filepath.Join(s.hooks, name), done: make(chan struct{}), news: make(chan struct{})}
	err := os.MkdirAll(c.part, 0o755)
	if err == nil {
		err = os.Chown(c.part, launcherUser, launcherUser)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	c.cmd = c.command(context.Background(), append([]string{"sidecar", "--hook-dir", "/mnt/hooks", "--log-level", "debug"}, args...)...)
	// The test may run in a container that has a name.
	c.cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "CONTAINER_NAME=") }), env...)
	c.cmd.Stdout, c.cmd.Stderr = c, c
	if err := c.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		_ = c.cmd.Wait()
		close(c.done)
	}()
	s.t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.done
		if s.t.Failed() {
			s.t.Logf("the sidecar %s said:\n%s", name, c.text())
		}
	})
	return c
}

// exit waits for the container's end and checks its status.
func (c *container) exit(status int) {
	c.site.t.Helper()
	select {
	case <-c.done:
	case <-time.After(patience):
		c.site.t.Fatalf("the sidecar %s does not end", c.name)
	}
	if got := c.cmd.ProcessState.ExitCode(); got != status {
		c.site.t.Errorf("the sidecar %s: exit status %d, want %d", c.name, got, status)
	}
	sockets, err := filepath.Glob(filepath.Join(c.part, "*.sock"))
	if err != nil || len(sockets) > 0 && status == 0 {
		c.site.t.Errorf("the sidecar %s left %v: %v", c.name, sockets, err)
	}
}

func (c *container) signal(signal syscall.Signal) {
	c.site.t.Helper()
	if err := c.cmd.Process.Signal(signal); err != nil {
		c.site.t.Fatal(err)
	}
}

// report is the part of the status that the tests read.
type report struct {
	Phase      string
	Interfaces []struct {
		Name, Binding, Bridge, Tap, MAC string
		Warnings                        []string
		Routes                          []struct{ Destination, Gateway string }
		Offer                           struct {
			Address              string
			ServerIdentifier     netip.Addr
			DomainName, BootFile string
			TFTPServer           string
			NTP                  []netip.Addr
			Options              []string
		}
		Lease struct {
			State   string
			Address netip.Addr
		}
	}
}

// status asks for an interface in the container, as an exec probe would.
func (c *container) status(iface string, args ...string) (report, error) {
	c.site.t.Helper()
	cmd := c.command(c.site.t.Context(), append([]string{"status", "-o", "json", "--state-dir", "/mnt/hooks/podnic", "--interface", iface}, args...)...)
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return report{}, fmt.Errorf("podnic status: %w: %s", err, exit.Stderr)
	}
	var r report
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	if err == nil && len(r.Interfaces) != 1 {
		err = fmt.Errorf("podnic status: %d interfaces", len(r.Interfaces))
	}
	return r, err
}

// ready waits until the guest has its address.
func (c *container) ready(iface string) report {
	c.site.t.Helper()
	r, err := c.status(iface, "--wait", "ready", "--timeout", patience.String())
	if err != nil {
		c.site.t.Fatal(err)
	}
	return r
}

// serving waits until the status says that the guest can be heard. Only the program knows when it next writes its state.
func (c *container) serving(iface string) report {
	c.site.t.Helper()
	var r report
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var err error
		if r, err = c.status(iface); err != nil {
			c.site.t.Fatal(err)
		}
		if r.Phase == "serving" {
			return r
		}
	}
	c.site.t.Fatalf("the sidecar %s does not serve: %+v", c.name, r)
	return r
}

// keeps waits for a file of the container.
func (c *container) keeps(path string) {
	c.site.t.Helper()
	path = strings.NewReplacer("/mnt/hooks", c.part, "/dev/shm", c.site.shm).Replace(path)
	// Only the program knows when it next writes its state.
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.site.t.Fatalf("the sidecar %s does not write %s", c.name, path)
		}
	}
}

// privileges are the user and the effective capabilities of the container's process.
func (c *container) privileges() (user, capabilities string) {
	c.site.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		c.site.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		switch fields := strings.Fields(line); fields[0] {
		case "Uid:":
			user = fields[2]
		case "CapEff:":
			capabilities = strings.TrimLeft(fields[1], "0")
		}
	}
	return user, capabilities
}

// nic is an interface of a VMI.
type nic struct {
	name, binding string
	secondary     bool
	more          map[string]any // of the interface
}

// vmi is a VMI as KubeVirt marshals it, with more in it than podnic knows of.
func vmi(nics ...nic) string {
	var interfaces, networks []map[string]any
	for _, n := range nics {
		i := map[string]any{"name": n.name, "ports": []any{map[string]any{"port": 80}}}
		if n.binding == "masquerade" {
			i["masquerade"] = map[string]any{}
		} else {
			i["binding"] = map[string]any{"name": n.binding}
		}
		maps.Copy(i, n.more)
		interfaces = append(interfaces, i)
		network := map[string]any{"name": n.name, "pod": map[string]any{}}
		if n.secondary {
			network = map[string]any{"name": n.name, "multus": map[string]any{"networkName": n.name}}
		}
		networks = append(networks, network)
	}
	b, err := json.Marshal(map[string]any{
		"kind": "VirtualMachineInstance", "apiVersion": "kubevirt.io/v1",
		"metadata": map[string]any{"name": "vm-0", "namespace": "default", "creationTimestamp": nil},
		"spec": map[string]any{
			"domain":   map[string]any{"devices": map[string]any{"interfaces": interfaces}, "resources": map[string]any{}},
			"networks": networks, "subdomain": "sub",
		},
		"status": map[string]any{"guestOSInfo": map[string]any{}},
	})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// card is an interface as KubeVirt has it in the domain when it calls the hooks (pkg/network/domainspec/generators.go,
// pkg/virt-launcher/virtwrap/converter).
func card(name, tap, mac string) string {
	return fmt.Sprintf(`<interface type="ethernet">
      <mtu size="1500"></mtu>
      <mac address="%s"></mac>
      <model type="virtio-non-transitional"></model>
      <target dev="%s" managed="no"></target>
      <alias name="ua-%s"></alias>
      <rom enabled="no"></rom>
    </interface>`, mac, tap, name)
}

// wire is a capture of what passes at the node's end of the pod's link.
type wire struct {
	t       *testing.T
	cmd     *exec.Cmd
	done    chan error
	packets strings.Builder
}

// tap starts the capture.
func (s *site) capture() *wire {
	s.t.Helper()
	w := &wire{t: s.t, done: make(chan error, 1)}
	listening := make(chan struct{})
	w.cmd = exec.Command("nsenter", "--net="+s.node.Path, "--", "tcpdump", "-i", s.pod.HostLink, "-n", "-l", "-e", "-v")
	w.cmd.Stdout = &w.packets
	w.cmd.Stderr = writer(func(b []byte) (int, error) {
		if strings.Contains(string(b), "listening on") {
			close(listening)
		}
		return len(b), nil
	})
	if err := w.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() { w.done <- w.cmd.Wait() }()
	s.t.Cleanup(func() { _ = w.cmd.Process.Kill() })
	select {
	case <-listening:
	case err := <-w.done:
		s.t.Fatalf("tcpdump: %v", err)
	case <-time.After(patience):
		s.t.Fatal("tcpdump does not listen")
	}
	return w
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// without ends the capture, and fails the test if it has one of the texts; seen is what it must have.
func (w *wire) without(seen string, texts ...string) {
	w.t.Helper()
	if err := w.cmd.Process.Signal(syscall.SIGINT); err != nil {
		w.t.Fatal(err)
	}
	if err := <-w.done; err != nil {
		w.t.Fatalf("tcpdump: %v", err)
	}
	all := w.packets.String()
	if !strings.Contains(all, seen) {
		w.t.Errorf("%q was not seen on the pod's link, so that the capture says nothing:\n%.2000s", seen, all)
	}
	for line := range strings.Lines(all) {
		if slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(line, text) }) {
			w.t.Errorf("seen on the pod's link: %s", line)
		}
	}
}
