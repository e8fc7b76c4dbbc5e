//go:build e2e

package containers

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/internal/cache"
	"github.com/podnic/podnic/test/pages"
	"github.com/podnic/podnic/test/podtest"
)

// target is what the documents call this suite.
const target = "make containers"

const (
	debian = "docker.io/library/debian:bookworm-slim"
	hello  = "hello from the guest\n"
)

// TestCommandsOfThePages runs them page by page, and none is left out. The first page makes the images.
func TestCommandsOfThePages(t *testing.T) {
	m := newMachine(t)
	all := make(map[string]pages.Page)
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		paths, err := filepath.Glob(filepath.Join("../..", pattern))
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, path := range paths {
			page, err := pages.Read(path)
			if err != nil {
				t.Fatal(err)
			}
			all[page.Name] = page
		}
	}
	for _, p := range []struct {
		name string
		run  func(m *machine, page pages.Page)
	}{
		{"kubernetes.md", images}, {"README.md", launcher}, {"qemu.md", qemu}, {"libvirt-hook.md", hook},
	} {
		ok := t.Run(p.name, func(t *testing.T) {
			of := *m
			of.t = t
			p.run(&of, all[p.name])
		})
		if !ok {
			t.FailNow()
		}
	}
	for _, page := range all {
		for _, b := range page.RunBy(target) {
			for _, c := range b.Commands {
				if !m.run[c.At] {
					t.Errorf("%s: nobody runs this: %s", c.At, c.Text)
				}
			}
		}
	}
}

// images makes them of Debian as the page does without a registry, and then as with one. Where none can be reached, its Debian is
// the page's.
func images(m *machine, page pages.Page) {
	blocks := page.RunBy(target)
	if len(blocks) != 2 {
		m.t.Fatalf("the page has %d blocks", len(blocks))
	}
	m.all(blocks[1])
	if out, errs, status := podtest.Run(m.t, m.command(m.t.Context(), "podman pull --quiet "+debian)); status != 0 {
		m.t.Logf("no registry, so that %s is the page's: %s%s", debian, out, errs)
		m.shell("podman tag localhost/debian:base " + debian)
	}
	m.all(blocks[0])
	for _, name := range []string{"podnic", "podnic-launcher", "podnic-qemu", "podnic-test"} {
		m.shell("podman image exists localhost/" + name + ":dev")
		m.shell("podman image exists registry.example/vm/" + name + ":1")
		m.shell("tar --list --file bin/images/" + name + ".tar manifest.json")
	}
}

// launcher has its guest answer, and is asked to stop.
func launcher(m *machine, page pages.Page) {
	if said := m.all(page.RunBy(target)...); !strings.Contains(said, hello) {
		m.t.Errorf("the guest does not answer: %s", said)
	}
	m.empty()
}

// qemu has a container at a terminal, another one beside it, and after them a container with a disk.
func qemu(m *machine, page pages.Page) {
	blocks := page.RunBy(target)
	if len(blocks) != 5 {
		m.t.Fatalf("the page has %d blocks", len(blocks))
	}
	m.all(blocks[0])
	vm := m.atTerminal(blocks[1].Commands[0])
	vm.Says("guest: ready")
	if said := m.all(blocks[2]); !strings.Contains(said, hello) {
		m.t.Errorf("the guest does not answer: %s", said)
	}
	m.all(blocks[3])
	vm.Says("guest: power button")
	vm.ends()

	// Its user may write it, as the page asks.
	disk, err := cache.Need("scripts/setup", "firmware", "usr", "lib", "ipxe", "ipxe.iso")
	if err != nil {
		m.t.Fatal(err)
	}
	m.shell("install -D --owner 107 --group 107 --mode 0644 '" + disk + "' vm/disk.qcow2")
	c := blocks[4].Commands[0]
	m.run[c.At] = true
	m.t.Logf("%s: %s", c.At, c.Text)
	shared := podtest.Start(m.t, c.Text, m.command(context.Background(), "exec "+c.Text))
	shared.Says("command started")
	m.shell("podman exec --latest podnic status --wait ready --timeout " + podtest.Patience.String())
	m.kill(syscall.SIGTERM)
	shared.Says("asking the guest to shut down")
	m.kill(syscall.SIGTERM) // a boot loader has no power button
	shared.Exits(0)
	m.empty()
}

// hook builds the page's image, and types the page's commands in it.
func hook(m *machine, page pages.Page) {
	blocks := page.RunBy(target)
	file := slices.IndexFunc(page.Blocks, func(b pages.Block) bool { return strings.HasPrefix(b.Text, "FROM ") })
	if len(blocks) != 1 || len(blocks[0].Commands) != 3 || file < 0 {
		m.t.Fatalf("the page has %d blocks, and its Containerfile is the %d.", len(blocks), file)
	}
	if err := os.WriteFile(filepath.Join(m.checkout, "Containerfile"), []byte(page.Blocks[file].Text), 0o644); err != nil {
		m.t.Fatal(err)
	}
	for _, c := range blocks[0].Commands[:2] {
		m.one(c)
	}
	shell := m.atTerminal(blocks[0].Commands[2])
	for _, b := range page.Unmarked() {
		for _, c := range b.Commands {
			shell.types(c)
		}
	}
	const address = `"$(podman inspect --latest --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}')"`
	if said := m.shell("wget -q -O - http://" + address + "/hello"); said != hello {
		m.t.Errorf("the guest says %q", said)
	}
	shell.types(pages.Command{Text: "virsh destroy vm"})
	if said := m.shell("podman exec --latest podnic status"); !strings.Contains(said, "eth0: original, nothing is wired") {
		m.t.Errorf("after the guest's end:\n%s", said)
	}
	if _, err := shell.keys.WriteString("exit\n"); err != nil {
		m.t.Fatal(err)
	}
	shell.ends()
}
