package guest

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/podnic/podnic/test/internal/cache"
)

//go:embed rootfs
var rootfs embed.FS

// Image is a guest that can be booted.
type Image struct {
	// Kernel and Initrd are files.
	Kernel, Initrd string
	// Version of the kernel.
	Version string
}

// The kernels that scripts/setup unpacks into the cache.
const (
	// Kernel is the distribution's own.
	Kernel = "kernel"
	// NewerKernel is the newest that the distribution has: the same, where that is its own.
	NewerKernel = "kernel-newer"
	// UserKernel is a program: user-mode Linux, which [UserMode] runs.
	UserKernel = "kernel-user"
)

// DHCPv6Client is the program with which a guest asks for a lease of IPv6: busybox has none.
const DHCPv6Client = "dhclient"

// Extra is what an image has besides the guest's own files, for tests that need another guest.
type Extra struct {
	// Kernel is one of those above; empty is the distribution's own.
	Kernel string
	// Modules are names of kernel modules. They and those they need follow the guest's own in /modules/order.
	Modules []string
	// Files are executables by their path in the image. One called "init" takes the place of the guest's.
	Files map[string][]byte
	// Programs are names of this machine's programs that come along, with their libraries, in /usr/local/bin.
	Programs []string
}

// Build makes the guest's initramfs in dir. The kernel stays in the cache.
func Build(dir string) (*Image, error) { return BuildWith(dir, Extra{}) }

// BuildWith makes an initramfs with more in it.
func BuildWith(dir string, extra Extra) (*Image, error) {
	kernel, err := cache.Need("scripts/setup", cmp.Or(extra.Kernel, Kernel))
	if err != nil {
		return nil, fmt.Errorf("the guest's kernel: %w", err)
	}
	busybox, err := readBusybox()
	if err != nil {
		return nil, err
	}
	modules, err := loadOrder(filepath.Join(kernel, "modules"), slices.Concat(wantedModules, extra.Modules))
	if err != nil {
		return nil, fmt.Errorf("the guest's modules: %w", err)
	}
	version, err := os.ReadFile(filepath.Join(kernel, "version"))
	if err != nil {
		return nil, fmt.Errorf("the guest's kernel: %w", err)
	}
	image := &Image{
		Kernel:  filepath.Join(kernel, "vmlinuz"),
		Initrd:  filepath.Join(dir, "initrd"),
		Version: strings.TrimSpace(string(version)),
	}
	files, err := programFiles(extra.Programs)
	if err != nil {
		return nil, fmt.Errorf("the guest's programs: %w", err)
	}
	maps.Copy(files, extra.Files)
	if err := image.writeInitrd(busybox, modules, files); err != nil {
		return nil, fmt.Errorf("the guest's initramfs: %w", err)
	}
	return image, nil
}

// readBusybox reads the machine's busybox, which the guest has nothing to link with: it must be the static one.
func readBusybox() ([]byte, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("%w (run scripts/setup)", err)
	}
	if out, err := exec.Command(path, "udhcpc", "--help").CombinedOutput(); err != nil && !strings.Contains(string(out), "Usage") {
		return nil, fmt.Errorf("%s has no udhcpc: install busybox-static", path)
	}
	return os.ReadFile(path)
}

// Provision is what the cache has to have for [BuildWith] to make a guest of a kernel elsewhere: in a machine that plays the
// node, say. The files' paths are in the cache. A kernel that is a program needs libc besides.
func Provision(kernel string) (map[string][]byte, error) {
	dir, err := cache.Need("scripts/setup", kernel)
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte)
	for _, name := range []string{"vmlinuz", "version"} {
		if files[kernel+"/"+name], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	modules, err := loadOrder(filepath.Join(dir, "modules"), wantedModules)
	for _, m := range modules {
		files[kernel+"/modules/"+m.name+".ko"] = m.data
	}
	return files, err
}

func (i *Image) writeInitrd(busybox []byte, modules []module, more map[string][]byte) (err error) {
	file, err := os.Create(i.Initrd)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()

	a := newArchive(file)
	for _, name := range []string{
		"bin", "dev", "etc", "modules", "proc", "sbin", "sys", "tmp", "usr", "usr/bin", "usr/sbin", "usr/share",
		"usr/share/udhcpc", "www", "www/cgi-bin",
	} {
		a.directory(name)
	}
	a.character("dev/console", 5, 1)
	a.file("bin/busybox", 0o755, busybox)
	for _, applet := range applets {
		a.symlink("bin/"+applet, "busybox")
	}
	// In an order of their own, so that the same guest is the same file.
	for _, s := range []struct{ name, path string }{
		{"init", "init"},
		{"default.script", "usr/share/udhcpc/default.script"},
		{"dhclient.script", "usr/share/dhclient.script"},
		{"ready", "usr/share/udhcpc/ready"},
		{"run", "www/cgi-bin/run"},
		{"shutdown", "bin/shutdown"},
	} {
		script, err := rootfs.ReadFile("rootfs/" + s.name)
		if err != nil {
			return err
		}
		if _, other := more[s.path]; !other {
			a.file(s.path, 0o755, script)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(more)) {
		a.parents(path)
		a.file(path, 0o755, more[path])
	}
	a.file("www/hello", 0o644, []byte("hello from the guest\n"))
	var order strings.Builder
	for _, m := range modules {
		a.file("modules/"+m.name+".ko", 0o644, m.data)
		order.WriteString(m.name + "\n")
	}
	a.file("modules/order", 0o644, []byte(order.String()))
	return a.close()
}

// applets are the commands that the guest's scripts, and those that tests send it, may use.
var applets = strings.Fields(`
	arp arping awk cat cut date dd dmesg echo expr false grep head hostname httpd id insmod ip ifconfig kill killall ls
	lsmod mkdir mount nc netstat nslookup ping ping6 pkill poweroff printf ps reboot rm route sed seq sh sleep sort sync
	sysctl tail test tftp time timeout touch tr true udhcpc uname uptime usleep wc wget xargs`)
