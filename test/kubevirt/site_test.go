// Package kubevirt tests the sidecar as KubeVirt runs it: the built programs, as the launcher's user and with no
// capability, in a pod that a real CNI plugin made and that a stand-in for KubeVirt's node agent wires, asked by a stand-in
// for its launcher in the order in which that asks, with real guests under a real libvirtd.
package kubevirt

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// launcherUser is the user that KubeVirt's launcher and its sidecars run as.
const launcherUser = 107

// plugin is the name under which the binding is registered.
const plugin = "podnic-binding"

// site is a launcher pod on a node, and the directory that its containers share.
type site struct {
	*podtest.Site
	hooks string
	shm   string // what all containers of a pod share
}

func newSite(t *testing.T, network pod.Network) *site {
	t.Helper()
	podtest.NeedRoot(t)
	node := podtest.Node(t)
	if network.OnUplink() {
		if err := node.AddUplink(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s := &site{Site: podtest.NewSite(t, node, network), hooks: t.TempDir(), shm: t.TempDir()}
	if err := os.Chmod(s.shm, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	return s
}

// launcher is that of the pod.
func (s *site) launcher() *launcher { return &launcher{t: s.T, dir: s.hooks} }

// container is a sidecar container of the pod.
type container struct {
	*podtest.Process
	site *site
	name string
	part string // its part of the hook directory
}

// command prepares podnic as a program of the container.
func (c *container) command(ctx context.Context, args ...string) *exec.Cmd {
	c.site.T.Helper()
	script, err := filepath.Abs("testdata/container")
	if err != nil {
		c.site.T.Fatal(err)
	}
	programs := filepath.Dir(podtest.Program(c.site.T))
	return c.site.Pod.Command(ctx, script, append([]string{fmt.Sprint(launcherUser), programs, c.part, c.site.shm}, args...)...)
}

// sidecar starts a sidecar container. One of the name that ran before leaves it what was in the shared directory.
func (s *site) sidecar(name, plugin string, args ...string) *container {
	s.T.Helper()
	return s.container(name, []string{"CONTAINER_NAME=" + name, "NETWORK_BINDING_PLUGIN_NAME=" + plugin}, args...)
}

// container starts a sidecar with what KubeVirt tells it.
func (s *site) container(name string, env []string, args ...string) *container {
	s.T.Helper()
	c := &container{site: s, name: name, part: filepath.Join(s.hooks, name)}
	err := os.MkdirAll(c.part, 0o755)
	if err == nil {
		err = os.Chown(c.part, launcherUser, launcherUser)
	}
	if err != nil {
		s.T.Fatal(err)
	}
	cmd := c.command(context.Background(), append([]string{"sidecar", "--hook-dir", "/mnt/hooks", "--log-level", "debug"}, args...)...)
	// The test may run in a container that has a name.
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "CONTAINER_NAME=") }), env...)
	c.Process = podtest.Start(s.T, "the sidecar "+name, cmd)
	return c
}

// exits waits for the container's end and checks its status, and that it leaves no socket.
func (c *container) exits(status int) {
	c.site.T.Helper()
	c.Exits(status)
	sockets, err := filepath.Glob(filepath.Join(c.part, "*.sock"))
	if err != nil || len(sockets) > 0 && status == 0 {
		c.site.T.Errorf("the sidecar %s left %v: %v", c.name, sockets, err)
	}
}

// status asks for an interface in the container, as an exec probe would.
func (c *container) status(iface string, args ...string) podtest.Report {
	c.site.T.Helper()
	cmd := c.command(c.site.T.Context(), append([]string{"status", "-o", "json", "--state-dir", "/mnt/hooks/podnic", "--interface", iface}, args...)...)
	return podtest.ReadReport(c.site.T, podtest.Must(c.site.T, cmd))
}

// ready waits until the guest has its address.
func (c *container) ready(iface string) podtest.Report {
	c.site.T.Helper()
	return c.status(iface, "--wait", "ready", "--timeout", podtest.Patience.String())
}

// serving waits until the status says that the guest can be heard. Only the program knows when it next writes its state.
func (c *container) serving(iface string) podtest.Report {
	c.site.T.Helper()
	var r podtest.Report
	for deadline := time.Now().Add(podtest.Patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if r = c.status(iface); r.Phase == "serving" {
			return r
		}
	}
	c.site.T.Fatalf("the sidecar %s does not serve: %+v", c.name, r)
	return r
}

// keeps waits for a file of the container.
func (c *container) keeps(path string) {
	c.site.T.Helper()
	path = strings.NewReplacer("/mnt/hooks", c.part, "/dev/shm", c.site.shm).Replace(path)
	// Only the program knows when it next writes its state.
	for deadline := time.Now().Add(podtest.Patience); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.site.T.Fatalf("the sidecar %s does not write %s", c.name, path)
		}
	}
}

// privileges are the user and the effective capabilities of the container's process.
func (c *container) privileges() (user, capabilities string) {
	c.site.T.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.PID()))
	if err != nil {
		c.site.T.Fatal(err)
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

// capture captures what passes at the node's end of the pod's link, or on the link that it stands on.
func (s *site) capture() *podtest.Process {
	s.T.Helper()
	link := cmp.Or(s.Pod.HostLink, pod.Uplink)
	p := podtest.Start(s.T, "tcpdump", exec.Command("nsenter", "--net="+s.Node.Path, "--", "tcpdump", "-i", link, "-n", "-l", "-e", "-v"))
	p.Says("listening on")
	return p
}

// without ends a capture, and fails the test if it has one of the texts; seen is what it must have.
func (s *site) without(capture *podtest.Process, seen string, texts ...string) {
	s.T.Helper()
	if status := capture.End(syscall.SIGINT); status != 0 {
		s.T.Fatalf("tcpdump: exit status %d", status)
	}
	all := capture.Output()
	if !strings.Contains(all, seen) {
		s.T.Errorf("%q was not seen on the pod's link, so that the capture says nothing:\n%.2000s", seen, all)
	}
	for line := range strings.Lines(all) {
		if slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(line, text) }) {
			s.T.Errorf("seen on the pod's link: %s", line)
		}
	}
}
