package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/internal/cache"
	"github.com/podnic/podnic/test/pages"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

const (
	top      = "../.."
	qemuDir  = top + "/deploy/qemu"
	qemuUser = 107
)

// TestImageIsAMachine runs the image of deploy/qemu as its Compose file, its pods and the commands of docs/qemu.md do: in a root
// file system made as the Containerfile says, as the user and with the capabilities, the environment, the volumes and the
// arguments that stand there. A guest is the one of the tests, or a disk whose boot loader asks for a lease (iPXE).
func TestImageIsAMachine(t *testing.T) {
	podtest.NeedRoot(t)
	all := map[string]container{"compose": composed(t), "pod": ofPod(t, "capabilities")}
	for i, c := range documented(t) {
		all[fmt.Sprintf("document %d", i+1)] = c
	}
	for name, c := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			for _, sysctl := range c.sysctls {
				podtest.In(t, s.Pod.Namespace, "sysctl -qw "+quote(sysctl))
			}
			s.Remember()
			c.isThePod(s)
			s.AsBefore()
		})
	}
	t.Run("pod without capability", func(t *testing.T) {
		t.Parallel()
		node := podtest.Node(t)
		node.AddPlugins(filepath.Dir(podtest.Program(t)))
		records := filepath.Join(t.TempDir(), "cni")
		network := pod.PTP.Chain(map[string]any{"type": "podnic", "binding": "bridge", "owner": qemuUser, "stateDir": records})
		s := &site{Site: podtest.NewSite(t, node, network)}
		s.other = podtest.Pod(t, node, pod.Spec{Name: "other", Network: pod.PTP})
		ofPod(t, "restricted").isThePod(s)
		if err := s.Pod.Close(); err != nil { // the runtime's DEL
			t.Error(err)
		}
		if left := podtest.Files(t, records); len(left) > 0 {
			t.Errorf("the plugin left %v", left)
		}
	})
}

// TestManifestsOfTheImage reads what the test above runs.
func TestManifestsOfTheImage(t *testing.T) {
	both := []string{"NET_ADMIN", "NET_RAW"}
	all := append(documented(t), composed(t), ofPod(t, "capabilities"))
	for _, c := range all {
		if c.user != 0 || !slices.Equal(c.capabilities, both) || !c.escalation {
			t.Errorf("podnic is to be root with two capabilities, from which QEMU is to become another user: %+v", c)
		}
	}
	if c := ofPod(t, "restricted"); c.user != qemuUser || len(c.capabilities) > 0 || c.escalation {
		t.Errorf("nothing is to have a privilege: %+v", c)
	}
}

// container is what an engine is told of one.
type container struct {
	arguments, environment []string
	sysctls                []string
	user                   int
	capabilities           []string
	escalation             bool
	ready                  []string // the command of its health check or probe
	writable               string   // the mode of /run, which the engine makes
	disk                   bool     // the guest boots /vm/disk.qcow2, and not a kernel
}

// composed is the container of the Compose file. What the file has and this does not know is an error.
func composed(t *testing.T) container {
	t.Helper()
	var file struct {
		Services map[string]struct {
			Image                            string
			Command, Devices, Tmpfs, Volumes []string
			CapDrop                          []string `json:"cap_drop"`
			CapAdd                           []string `json:"cap_add"`
			ReadOnly                         bool     `json:"read_only"`
			Environment                      map[string]string
			Ports                            []string
			StopGracePeriod                  string `json:"stop_grace_period"`
			Restart                          string
			Healthcheck                      struct {
				Test        []string
				Interval    string
				StartPeriod string `json:"start_period"`
			}
		}
	}
	decode(t, "compose.yaml", &file)
	vm := file.Services["vm"]
	if len(file.Services) != 1 || vm.Image != "localhost/podnic-qemu:dev" || !vm.ReadOnly || !slices.Equal(vm.CapDrop, []string{"ALL"}) ||
		!slices.Equal(vm.Devices, []string{"/dev/net/tun"}) || !slices.Equal(vm.Tmpfs, []string{"/run"}) ||
		!slices.Equal(vm.Volumes, []string{"./vm:/vm"}) || vm.Healthcheck.Test[0] != "CMD" {
		t.Fatalf("the test does not make such a container: %+v", vm)
	}
	c := container{
		arguments: vm.Command, capabilities: vm.CapAdd, escalation: true, ready: vm.Healthcheck.Test[1:],
		writable: "1777", disk: true, // as docker makes a tmpfs
	}
	for name, value := range vm.Environment {
		c.environment = append(c.environment, name+"="+value)
	}
	return c
}

// documented are the containers that docs/qemu.md runs by podman.
func documented(t *testing.T) (all []container) {
	t.Helper()
	page, err := pages.Read(top + "/docs/qemu.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range page.RunBy("TestImageIsAMachine") {
		for _, command := range block.Commands {
			// The shell that a reader has splits it into words.
			words := podtest.Must(t, exec.CommandContext(t.Context(), "sh", "-e", "-c", `podman() { printf '%s\n' "$@"; }`+"\n"+command.Text))
			all = append(all, run(t, strings.Split(strings.TrimSpace(words), "\n")[1:]))
		}
	}
	if len(all) != 2 {
		t.Fatalf("the document runs %d containers, not two", len(all))
	}
	return all
}

// run is the container of an engine's command line.
func run(t *testing.T, words []string) container {
	t.Helper()
	c := container{escalation: true, ready: []string{"podnic", "status", "--wait", "ready"}, writable: "1777"}
	flags := map[string][]string{}
	for ; strings.HasPrefix(words[0], "--"); words = words[1:] {
		switch flag := words[0]; flag {
		case "--rm", "--interactive", "--tty", "--read-only":
			flags[flag] = []string{""}
		default:
			words = words[1:]
			flags[flag] = append(flags[flag], words[0])
		}
	}
	c.capabilities, c.environment, c.sysctls, c.arguments = flags["--cap-add"], flags["--env"], flags["--sysctl"], words[1:]
	c.disk = slices.Contains(c.arguments, "-drive")
	if words[0] != "localhost/podnic-qemu:dev" || !slices.Equal(flags["--cap-drop"], []string{"ALL"}) || flags["--read-only"] == nil ||
		!slices.Equal(flags["--device"], []string{"/dev/net/tun"}) || !slices.Equal(flags["--tmpfs"], []string{"/run"}) ||
		len(flags["--volume"]) != 1 || !strings.HasSuffix(flags["--volume"][0], ":/vm") {
		t.Fatalf("the test does not make such a container: %v %v", flags, words)
	}
	return c
}

func decode(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(qemuDir, name))
	if err == nil {
		err = yaml.UnmarshalStrict(text, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// ofPod is the container of a variant of the pod.
func ofPod(t *testing.T, variant string) container {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(qemuDir, variant))
	if err != nil {
		t.Fatal(err)
	}
	text, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	var p corev1.Pod
	if err := yaml.UnmarshalStrict(text, &p); err != nil {
		t.Fatal(err)
	}
	if len(p.Spec.Containers) != 1 {
		t.Fatalf("the pod has %d containers", len(p.Spec.Containers))
	}
	vm := p.Spec.Containers[0]
	own := vm.SecurityContext
	if vm.Image != "localhost/podnic-qemu:dev" || own == nil || !*own.ReadOnlyRootFilesystem || !slices.Equal(own.Capabilities.Drop, []corev1.Capability{"ALL"}) {
		t.Fatalf("the test does not make such a container: %+v", vm)
	}
	c := container{arguments: vm.Args, escalation: *own.AllowPrivilegeEscalation, ready: vm.ReadinessProbe.Exec.Command, writable: "0777"}
	for _, capability := range own.Capabilities.Add {
		c.capabilities = append(c.capabilities, string(capability))
	}
	for _, user := range []*int64{p.Spec.SecurityContext.RunAsUser, own.RunAsUser} {
		if user != nil {
			c.user = int(*user)
		}
	}
	var mounted []string
	for _, mount := range vm.VolumeMounts {
		mounted = append(mounted, mount.MountPath)
	}
	if slices.Sort(mounted); !slices.Equal(mounted, []string{"/dev/net/tun", "/run", "/vm"}) && !slices.Equal(mounted, []string{"/run", "/vm"}) {
		t.Fatalf("the test does not make such volumes: %v", mounted)
	}
	return c
}

// privileges are setpriv's arguments for what the container may do.
func (c container) privileges() string {
	set := "-all"
	for _, name := range c.capabilities {
		set += ",+" + strings.ToLower(name)
	}
	args := "--inh-caps=-all --bounding-set=" + set
	if c.user != 0 {
		args += fmt.Sprintf(" --reuid %[1]d --regid %[1]d --clear-groups", c.user)
	}
	if !c.escalation {
		args += " --no-new-privs"
	}
	return args
}

// variables are the container's environment.
func (c container) variables() []string {
	return append([]string{"env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, c.environment...)
}

// isThePod runs the container in the site's pod until its guest answers, and stops it as an engine does.
func (c container) isThePod(s *site) {
	s.T.Helper()
	// Below the directory of a test nobody else can look.
	dir := s.T.TempDir()
	entrypoint := build(s.T, dir)
	c.fill(s.T, filepath.Join(dir, "vm"))
	script, err := filepath.Abs("testdata/container")
	if err != nil {
		s.T.Fatal(err)
	}
	cmd := s.Pod.Command(context.Background(), "unshare", slices.Concat([]string{"--mount", "--pid", "--fork", "--kill-child", "--", script, dir},
		c.variables(), entrypoint, c.arguments)...)
	cmd.Env = append(os.Environ(), "WRITABLE="+c.writable, "PRIVILEGES="+c.privileges())
	p := podtest.Start(s.T, "the container", cmd)
	p.Says("command started")
	first := child(s.T, p)

	// Engines ask again and again; this waits.
	podtest.Must(s.T, c.exec(s.T.Context(), first, append(c.ready, "--timeout", podtest.Patience.String())...))
	if !c.disk {
		p.Says("guest: ready")
		client := guest.Client{Address: s.Pod.Address.Addr(), Dial: s.other.DialContext}
		if hello, err := client.Hello(s.T.Context()); err != nil || !strings.Contains(hello, "hello") {
			s.T.Errorf("from the other pod: %q, %v", hello, err)
		}
	}
	const wanted = "Uid: 107 107 107 107\nGid: 107 107 107 107\nCapInh: 0\nCapPrm: 0\nCapEff: 0\nCapAmb: 0\nNoNewPrivs: 1\n"
	emulator := podtest.Must(s.T, c.exec(s.T.Context(), first, "sh", "-c", `for p in /proc/[0-9]*; do
		grep -q '^Name:.*qemu-system' $p/status && sed -nE '/^(Uid|Gid|Cap[^B]..|NoNewPrivs):/ { s/\t/ /g; s/ 0+$/ 0/; p }' $p/status
	done || :`))
	if emulator != wanted {
		s.T.Errorf("QEMU is\n%swant\n%s", emulator, wanted)
	}

	stop := func() {
		if err := syscall.Kill(first, syscall.SIGTERM); err != nil {
			s.T.Fatal(err)
		}
	}
	stop()
	p.Says("asking the guest to shut down")
	if c.disk { // a boot loader has no power button
		stop()
	} else {
		p.Says("guest: power button")
	}
	p.Exits(0)
}

// fill puts into a volume what the guest boots, for the container's user alone where that is to write it.
func (c container) fill(t *testing.T, volume string) {
	t.Helper()
	if err := os.Mkdir(volume, 0o755); err != nil {
		t.Fatal(err)
	}
	from := map[string]string{}
	if c.disk {
		disk, err := cache.Need("scripts/setup", "firmware", "usr", "lib", "ipxe", "ipxe.iso")
		if err != nil {
			t.Fatal(err)
		}
		from["disk.qcow2"] = disk
	} else {
		image := podtest.Guest(t)
		from["vmlinuz"], from["initrd"] = image.Kernel, image.Initrd
	}
	for name, file := range from {
		content, err := os.ReadFile(file)
		path := filepath.Join(volume, name)
		if err := errors.Join(err, os.WriteFile(path, content, 0o600), os.Chown(path, qemuUser, qemuUser)); err != nil {
			t.Fatal(err)
		}
	}
}

// exec prepares a command in the container, as its user.
func (c container) exec(ctx context.Context, first int, command ...string) *exec.Cmd {
	args := slices.Concat([]string{"--target", strconv.Itoa(first), "--mount", "--pid", "--net", "--root", "--wd", "--"},
		c.variables(), []string{"setpriv"}, strings.Fields(c.privileges()), []string{"--"}, command)
	return exec.CommandContext(ctx, "nsenter", args...)
}

// child is the first process of the container.
func child(t *testing.T, p *podtest.Process) int {
	t.Helper()
	out := podtest.Must(t, exec.Command("ps", "-o", "pid=", "--ppid", strconv.Itoa(p.PID())))
	pid, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		t.Fatalf("the container's first process: %q", out)
	}
	return pid
}

// build writes into a directory the script that makes the image as the Containerfile says, but for Debian's packages, and
// returns its entrypoint.
func build(t *testing.T, dir string) (entrypoint []string) {
	t.Helper()
	context, err := filepath.Abs(top)
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	ran, copied := 0, 0
	for _, line := range instructions(t) {
		word, rest, _ := strings.Cut(line, " ")
		fields := strings.Fields(rest)
		switch word {
		case "RUN":
			if strings.Contains(rest, "apt-get") {
				continue
			}
			ran++
			fmt.Fprintf(&script, "chroot . sh -e -c %s\n", quote(rest))
		case "COPY":
			switch from := filepath.Join(context, fields[0]); {
			case !strings.HasPrefix(fields[0], "--from=podnic"):
				fmt.Fprintf(&script, "cp -p %s .%s\n", quote(from), fields[1])
			case fields[1] == "/usr/local/bin/podnic":
				fmt.Fprintf(&script, "cp %s .%s\n", quote(podtest.Program(t)), fields[2])
			default: // its man pages
				continue
			}
			copied++
		case "ENTRYPOINT":
			if err := yaml.Unmarshal([]byte(rest), &entrypoint); err != nil {
				t.Fatal(err)
			}
		}
	}
	if ran != 2 || copied != 2 || len(entrypoint) == 0 {
		t.Fatalf("the test knows another Containerfile: %d steps, %d files, entrypoint %v", ran, copied, entrypoint)
	}
	if err := os.WriteFile(filepath.Join(dir, "build"), []byte(script.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return entrypoint
}

func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// instructions are those of the Containerfile, a line each.
func instructions(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(qemuDir, "Containerfile"))
	if err != nil {
		t.Fatal(err)
	}
	var joined strings.Builder
	for line := range strings.Lines(string(text)) {
		switch part, goesOn := strings.CutSuffix(strings.TrimSpace(line), `\`); {
		case strings.HasPrefix(part, "#"):
		case goesOn:
			joined.WriteString(part)
		default:
			all = append(all, joined.String()+part)
			joined.Reset()
		}
	}
	return all
}
