package libvirtd

import (
	"fmt"
	"os"
	"path/filepath"
)

// daemonConf is libvirtd.conf: a socket in the daemon's directory for whoever can reach it, and a log.
const daemonConf = `unix_sock_dir = "%[1]s/run"
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
listen_tls = 0
log_outputs = "2:file:%[1]s/libvirtd.log"
`

// qemuConf is qemu.conf. The private mount namespace takes the place of everything that the driver would do to shut a guest
// in; and there is no second daemon (virtlogd) to write consoles.
const qemuConf = `user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
namespaces = []
cgroup_controllers = []
security_driver = "none"
stdio_handler = "file"
`

// accounts are added to the passwd and group files that the daemon sees. The QEMU driver does not load without its built-in
// default user and group, although qemu.conf has it use others; the package that makes them also starts a daemon.
var accounts = map[string]string{
	"passwd": "libvirt-qemu:x:65530:65530::/nonexistent:/usr/sbin/nologin\n",
	"group":  "libvirt-qemu:x:65530:\nkvm:x:65531:\n",
}

// makeDirectories writes the configuration, and what hold.sh mounts, into dir.
func makeDirectories(dir string) error {
	for _, name := range []string{"dev", "run", "etc", "lib", "cache", "log"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	for name, entry := range accounts {
		machine, err := os.ReadFile("/etc/" + name)
		if err != nil {
			return err
		}
		// A second entry of a name that the machine has is never looked at.
		if err := os.WriteFile(filepath.Join(dir, name), append(machine, entry...), 0o644); err != nil {
			return err
		}
	}
	daemon := fmt.Appendf(nil, daemonConf, dir)
	if err := os.WriteFile(filepath.Join(dir, "etc", "libvirtd.conf"), daemon, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "etc", "qemu.conf"), []byte(qemuConf), 0o644)
}
