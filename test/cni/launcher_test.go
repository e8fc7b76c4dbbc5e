package cni

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// TestGuestOfALauncherWithoutCapability runs the containers of the launcher pod in the manifests, as the users and with the
// commands that stand there: the server as nobody, and the emulator as the tap's owner, with a guest of the tests.
func TestGuestOfALauncherWithoutCapability(t *testing.T) {
	podtest.NeedRoot(t)
	t.Parallel()
	dir := publicDir(t)
	node := podtest.Node(t)
	node.AddPlugins(filepath.Dir(podtest.Program(t)))
	log := filepath.Join(dir, "log")
	vm := podtest.Pod(t, node, pod.Spec{Name: "vm", Hostname: "vm-0", Network: pod.PTP.Chain(podnic(object{
		"stateDir": filepath.Join(dir, "cni"), "logFile": log,
	}))})
	other := podtest.Pod(t, node, pod.Spec{Name: "other", Network: pod.PTP})
	if vm.Result.Interfaces[len(vm.Result.Interfaces)-1].Name != "tap0" {
		t.Errorf("result: %v", vm.Result.Interfaces)
	}

	copyFile(t, podtest.Program(t), filepath.Join(dir, "podnic"))
	emptyDir := filepath.Join(dir, "state")
	if err := errors.Join(os.Mkdir(emptyDir, 0o777), os.Chmod(emptyDir, 0o777)); err != nil {
		t.Fatal(err)
	}
	server := inContainer(t, vm, container(t, "dhcp"), "PATH="+dir+":$PATH", strings.NewReplacer("serve", "serve --state-dir "+emptyDir))

	image, err := guest.Build(dir)
	if err != nil {
		t.Fatal(err)
	}
	kernel := filepath.Join(dir, "vmlinuz")
	copyFile(t, image.Kernel, kernel)
	console := filepath.Join(dir, "console")
	follow := podtest.Console(t, console)
	emulator := inContainer(t, vm, container(t, "vm"), "", strings.NewReplacer(
		"-machine q35 -m 512 -nographic", "-machine q35,accel=tcg -m 128 -nodefaults -no-user-config -display none",
		"-drive file=/disk/disk.qcow2,if=virtio", "-serial file:"+console+" -kernel "+kernel+" -initrd "+image.Initrd+
			" -append '"+guest.Domain{}.CommandLine()+"'",
	))
	ctx, cancel := context.WithTimeout(t.Context(), 2*podtest.Patience)
	defer cancel()
	line, err := follow.Wait(ctx, "guest: lease")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"address": vm.Address.Addr().String(), "mask": "32", "hostname": "vm-0", "dns": "10.96.0.10", "serverid": "169.254.75.10",
	} {
		if got := guest.Fields(line)[name]; got != want {
			t.Errorf("the guest's %s is %s, want %s: %s", name, got, want, line)
		}
	}
	if _, err := follow.Wait(ctx, "guest: gateway "+vm.Gateway.String()+" answers"); err != nil {
		t.Error(err)
	}
	hello, err := guest.Client{Address: vm.Address.Addr(), Dial: other.DialContext}.Hello(ctx)
	if err != nil || !strings.Contains(hello, "hello") {
		t.Errorf("from the other pod: %q, %v", hello, err)
	}
	probe := []string{filepath.Join(dir, "podnic")}
	for _, word := range at(container(t, "dhcp"), "readinessProbe", "exec", "command").([]any)[1:] {
		probe = append(probe, word.(string))
	}
	probe = append(probe, "--state-dir", emptyDir, "--timeout", "20s") // a kubelet asks again and again
	if out, err := vm.Command(ctx, "sh", append([]string{"-e", "-c", unprivileged(65534)}, probe...)...).CombinedOutput(); err != nil {
		t.Errorf("the readiness probe: %v: %s", err, out)
	}
	emulator()
	server()
	if err := vm.Close(); err != nil { // the runtime's DEL
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "cni")); err != nil || len(left) > 0 {
		t.Errorf("left in the state directory: %v, %v", left, err)
	}
	if text, _ := os.ReadFile(log); !strings.Contains(string(text), `"restored"`) {
		t.Errorf("the plugin's log: %s", text)
	}
}

// container is what the manifest says of a container of the launcher pod.
func container(t *testing.T, name string) any {
	t.Helper()
	containers, _ := at(documents(t)["Pod vm-0"], "spec", "containers").([]any)
	for _, c := range containers {
		if at(c, "name") == name {
			return c
		}
	}
	t.Fatalf("there is no container %s", name)
	return nil
}

// inContainer runs a container's command in the pod as the user that the manifest names and without any capability, until
// the returned function is called. replace makes of it what the test can run.
func inContainer(t *testing.T, p *pod.Pod, c any, variable string, replace *strings.Replacer) (end func()) {
	t.Helper()
	var words []string
	for _, word := range at(c, "command").([]any) {
		words = append(words, replace.Replace(word.(string)))
	}
	command := words[len(words)-1]
	if words[0] != "sh" {
		command = "exec " + strings.Join(words, " ")
	}
	uid, ok := at(c, "securityContext", "runAsUser").(float64)
	if !ok {
		t.Fatal("the container has no user")
	}
	cmd := p.Command(context.Background(), "sh", "-e", "-c", unprivileged(int(uid)), "sh", "-ec", variable+"\n"+command)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	done := false
	end = func() {
		if done {
			return
		}
		done = true
		_ = cmd.Process.Signal(os.Interrupt) // one that has ended says so below
		if err := <-ended; err != nil && cmd.ProcessState.ExitCode() != 0 {
			t.Errorf("%s: %v: %s", words[0], err, out.String())
		}
	}
	t.Cleanup(end)
	return end
}

// publicDir is a directory that every user can reach.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "podnic-public-")
	if err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		err = os.Chmod(dir, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	podtest.Executable(t, to, b)
}
