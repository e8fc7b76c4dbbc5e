package doctor

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// hookDir is where libvirt looks for hooks (src/util/virhook.c, with Debian's and most others' sysconfdir).
const hookDir = "/etc/libvirt/hooks"

// isHook reports whether libvirt runs this very program as its hook.
func (v *visit) isHook() bool {
	own, err := os.Stat("/proc/self/exe")
	if err != nil {
		return false
	}
	more, _ := filepath.Glob(filepath.Join(v.Root, hookDir, "qemu.d", "*"))
	return slices.ContainsFunc(append(more, filepath.Join(v.Root, hookDir, "qemu")), func(path string) bool {
		info, err := os.Stat(path)
		return err == nil && os.SameFile(own, info)
	})
}

// hook looks at what libvirt would run for a guest: hooks/qemu, and then qemu.d/* in order. What is there and cannot be
// executed is not run, and nobody is told.
func (v *visit) hook() outcome {
	main := filepath.Join(v.Root, hookDir, "qemu")
	more, _ := filepath.Glob(filepath.Join(v.Root, hookDir, "qemu.d", "*")) // fails on a wrong pattern alone
	slices.Sort(more)
	var found []string
	for _, path := range append([]string{main}, more...) {
		if _, err := os.Lstat(path); err != nil {
			continue
		}
		name := strings.TrimPrefix(path, v.Root)
		switch info, err := os.Stat(path); {
		case os.IsNotExist(err):
			return fail("%s leads nowhere, so libvirt does not run it", name).but("install it again (`podnic hook install`), or remove it")
		case err != nil:
			return unknown("%v", err)
		case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
			return fail("%s cannot be executed, so libvirt does not run it", name)
		}
		found = append(found, name)
	}
	if len(found) == 0 {
		return ok("there is no qemu hook, which only `podnic hook` needs")
	}
	return ok("%s (a daemon that was started before there was any runs none)", strings.Join(found, ", "))
}
