package shapes

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/podtest"
)

// TestOlderKernel runs rounds on a virtual machine with the distribution's cloud kernel, with and without IPv6, and
// each of them without and with nftables: what is missing is warned of, and the rest works.
func TestOlderKernel(t *testing.T) {
	podtest.NeedRoot(t)
	image := olderMachine(t)
	kvm, err := guest.KVM(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ argument, ipv6 string }{{"", "yes"}, {"ipv6.disable=1", "no"}} {
		t.Run("ipv6 "+test.ipv6, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "console")
			console := podtest.Console(t, path)
			cmd := guest.Machine{
				Image: image, KVM: kvm, Memory: 384, Serial: []string{path}, Arguments: []string{test.argument},
			}.Command(context.Background())
			machine := podtest.Start(t, "qemu", cmd)
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
			defer cancel()
			go func() {
				<-machine.Done
				cancel() // nothing more will come
			}()
			if _, err := console.Wait(ctx, "shapes: done"); err != nil {
				t.Fatal(err)
			}
			t.Logf("Linux %s", image.Version)
			said := func(what string) (all []map[string]string) {
				for _, line := range regexp.MustCompile("(?m)^shapes: "+what+" .*").FindAllString(console.Text(), -1) {
					all = append(all, guest.Fields(line))
				}
				return all
			}
			round := func(nftables, warned string) map[string]string {
				return map[string]string{
					"nftables": nftables, "warned": warned, "ipv6": test.ipv6, "address": "10.244.1.5/24",
					"ping": "yes", "same": "yes", "back": "yes", "left": "",
				}
			}
			want := []map[string]string{round("no", "prepare,status,serve,doctor"), round("yes", "")}
			if diff := cmp.Diff(want, said("round")); diff != "" {
				t.Errorf("rounds (-want +got):\n%s", diff)
			}
			// nfnetlink is there without nftables where something else wants it.
			calls := []map[string]string{{"modules": "none", "left": ""}, {"modules": "nfnetlink", "left": ""}, {"modules": "all", "left": ""}}
			if diff := cmp.Diff(calls, said("plugin")); diff != "" {
				t.Errorf("calls of the CNI plugin (-want +got):\n%s", diff)
			}
		})
	}
}

// olderMachine is the guest's kernel with podnic, iproute2 and a pump.
func olderMachine(t *testing.T) *guest.Image {
	t.Helper()
	podnic := podtest.Program(t)
	if needed, err := guest.Libraries(podnic); err != nil || len(needed) > 0 {
		t.Fatalf("%s needs %v (%v): it must be static", podnic, needed, err)
	}
	pump := filepath.Join(t.TempDir(), "pump")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", pump, "./pump")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	extra := guest.Extra{
		Modules:  []string{"veth", "bridge", "tun", "nf_tables", "nft_meta_bridge"},
		Programs: []string{"ip"},
		Files:    make(map[string][]byte),
	}
	for name, path := range map[string]string{
		"init": testdata(t, "init"), "lease": testdata(t, "lease"), "podnic": podnic, "pump": pump,
	} {
		var err error
		if extra.Files[name], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	image, err := guest.BuildWith(t.TempDir(), extra)
	if err != nil {
		t.Fatal(err)
	}
	return image
}
