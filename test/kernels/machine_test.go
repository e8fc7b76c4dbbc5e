package kernels

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/internal/cache"
	"github.com/podnic/podnic/test/podtest"
)

// patience bounds a boot with all its tests, which takes half of it on a machine that has ten times as much to do as it can.
const patience = 15 * time.Minute

// modules are what the kernel of a node has, and the tests of ./network want of it.
var modules = strings.Fields(`
	vmxnet3 veth bridge tun dummy macvlan ipvlan 8021q vrf
	nf_tables nft_meta_bridge nft_reject_bridge nft_reject_inet nft_fwd_netdev nft_dup_netdev
	nft_ct nft_nat nft_masq nft_chain_nat nft_socket nft_fib_inet nft_limit nft_log nft_quota
	sch_ingress cls_u32 cls_bpf cls_matchall cls_flower act_mirred act_gact`)

// cards are four network cards on one wire, eth0 to eth3, of which the last merges what it receives (LRO).
var cards = strings.Fields(`
	-netdev hubport,id=a,hubid=0 -device virtio-net-pci,netdev=a
	-netdev hubport,id=b,hubid=0 -device virtio-net-pci,netdev=b
	-netdev hubport,id=c,hubid=0 -device virtio-net-pci,netdev=c
	-netdev hubport,id=d,hubid=0 -device vmxnet3,netdev=d`)

// programs are what these tests call.
var programs = strings.Fields("ip bridge tc nft ping sysctl setpriv unshare nsenter mount flock sh")

// suites are the packages whose tests run in the machines, by their paths in the module.
var suites = []string{"network", "dhcp", "test/command"}

//go:embed testdata/init
var initScript []byte

// result is how a test in the machine ended.
type result struct {
	name   string
	status string // pass, fail or skip
	took   time.Duration
	output string
}

// build makes the tests of each suite one static program.
func build(t *testing.T) map[string][]byte {
	t.Helper()
	binaries := make(map[string][]byte)
	for _, suite := range suites {
		path := filepath.Join(t.TempDir(), "suite.test")
		cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-ldflags", "-s -w", "-o", path, "../../"+suite)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var err error
		if binaries[suite], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return binaries
}

// boot runs the tests of each phase in a machine with a kernel and returns how each ended. What else goes wrong in the machine
// fails the test.
func boot(t *testing.T, kernel string, binaries map[string][]byte, phases []phase) [][]result {
	t.Helper()
	dir := t.TempDir()
	image, err := guest.BuildWith(dir, guest.Extra{
		Kernel: kernel, Modules: modules, Programs: programs, Files: files(t, binaries, phases),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("Linux %s", image.Version)

	own, said := filepath.Join(dir, "console"), filepath.Join(dir, "tests")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var console []byte
	for tries := 3; ; tries-- {
		out, runErr := machine(ctx, t, image, kernel, own, said).CombinedOutput()
		if console, err = os.ReadFile(own); err != nil {
			t.Fatal(err)
		}
		// No test has begun.
		if tries > 1 && kernel == guest.UserKernel && guest.Refused(string(console)) {
			continue
		}
		if ctx.Err() != nil {
			t.Errorf("the machine still runs after %s", patience)
		} else if runErr != nil {
			t.Errorf("%v: %s", runErr, out)
		}
		break
	}
	judgeConsole(t, string(console))
	log, err := os.ReadFile(said)
	if err != nil {
		t.Fatal(err)
	}
	var all [][]result
	var rests string
	for _, text := range strings.SplitN(string(log), endOfPhase, len(phases)) {
		results, rest := parse(t, text)
		all, rests = append(all, results), rests+rest
	}
	if len(all) < len(phases) {
		t.Errorf("only %d of %d phases have run", len(all), len(phases))
	}
	if t.Failed() {
		t.Logf("the machine's console:\n%s\nbesides its tests:\n%s", console, rests)
	}
	return all
}

// endOfPhase is said after each phase but the last.
const endOfPhase = "=== the next phase"

// machine is the command of one that says what is its own in one file, and what its tests say in another.
func machine(ctx context.Context, t *testing.T, image *guest.Image, kernel, own, said string) *exec.Cmd {
	t.Helper()
	const memory = 512
	if kernel == guest.UserKernel {
		u := guest.UserMode{Image: image, Memory: memory, Directory: t.TempDir(), Serial: []string{own, said}}
		return u.Command(ctx)
	}
	kvm, err := guest.KVM(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return guest.Machine{Image: image, KVM: kvm, Memory: memory, Serial: []string{own, said}, Devices: cards}.Command(ctx)
}

// judgeConsole fails the test for what the machine itself complains of. Its tests are judged one by one.
func judgeConsole(t *testing.T, console string) {
	t.Helper()
	ended := false
	for _, match := range regexp.MustCompile(`(?m)^node: ([^\r\n]*)`).FindAllStringSubmatch(console, -1) {
		switch text := match[1]; {
		case text == "up":
		case strings.HasPrefix(text, "status "):
			ended = true
		default:
			t.Errorf("the machine: %s", text)
		}
	}
	if !ended {
		t.Error("the machine has not come to the end of its tests")
	}
}

// files are what the machine has besides its kernel: a checkout with the tests, each where it looks for its testdata, with the
// programs and what it needs of the cache.
func files(t *testing.T, binaries map[string][]byte, phases []phase) map[string][]byte {
	t.Helper()
	files := map[string][]byte{"init": initScript, "etc/hosts": nil, "etc/resolv.conf": nil, "checkout/go.mod": nil}
	read := func(to, from string) {
		t.Helper()
		var err error
		if files["checkout/"+to], err = os.ReadFile(from); err != nil {
			t.Fatal(err)
		}
	}
	read("bin/podnic", podtest.Program(t))
	read("docs/qemu.md", "../../docs/qemu.md") // which has the command that test/command runs
	for _, plugin := range []string{"ipvlan", "host-local"} {
		path, err := cache.Need("make cni", "cni", plugin)
		if err != nil {
			t.Fatal(err)
		}
		read(".cache/cni/"+plugin, path)
	}
	kernel, err := guest.Provision(guest.UserKernel)
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range kernel {
		files["checkout/.cache/"+path] = text
	}

	late := ""
	run := "#!/bin/sh\nexport PODNIC_TEST_NICS='eth0 eth1 eth2 eth3'\nstatus=0\n"
	for i, p := range phases {
		run += fmt.Sprintf("export PODNIC_TEST_LACKS=%s\n", p.lacks)
		for _, suite := range suites {
			if pattern := p.pattern(suite); pattern != "" {
				run += fmt.Sprintf("cd /checkout/%s && ./suite.test -test.v=test2json -test.timeout=%s -test.run='%s' || status=1\n", suite, patience, pattern)
			}
		}
		if p.module != "" {
			late += p.module + "\n"
			run += fmt.Sprintf("insmod /modules/%s.ko || status=1\n", p.module)
		}
		if i < len(phases)-1 {
			run += fmt.Sprintf("echo '%s'\n", endOfPhase)
		}
	}
	files["tests"], files["modules/late"] = []byte(run+"exit $status\n"), []byte(late)
	for _, suite := range suites {
		files["checkout/"+suite+"/suite.test"] = binaries[suite]
		dir := os.DirFS("../../" + suite)
		err := fs.WalkDir(dir, "testdata", func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && !entry.IsDir() {
				files["checkout/"+suite+"/"+path], err = fs.ReadFile(dir, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// parse reads what a test program said. What belongs to no test is the rest: a panic, say.
func parse(t *testing.T, log string) (results []result, rest string) {
	t.Helper()
	convert := exec.CommandContext(t.Context(), "go", "tool", "test2json", "-t")
	convert.Stdin = strings.NewReader(strings.ReplaceAll(log, "\r\n", "\n")) // as a terminal has it
	text, err := convert.Output()
	if err != nil {
		t.Fatalf("test2json: %v", err)
	}
	outputs := make(map[string]string)
	for decoder := json.NewDecoder(bytes.NewReader(text)); ; {
		var event struct {
			Action, Test, Output string
			Elapsed              float64
		}
		err := decoder.Decode(&event)
		if errors.Is(err, io.EOF) {
			return results, outputs[""]
		}
		if err != nil {
			t.Fatalf("test2json: %v", err)
		}
		switch event.Action {
		case "output":
			outputs[event.Test] += event.Output
		case "pass", "fail", "skip":
			if event.Test != "" {
				took := time.Duration(event.Elapsed * float64(time.Second)).Round(10 * time.Millisecond)
				results = append(results, result{event.Test, event.Action, took, outputs[event.Test]})
			}
		}
	}
}
