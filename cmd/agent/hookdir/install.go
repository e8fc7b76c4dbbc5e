// Package hookdir puts podnic among the hooks in libvirt's directory of configuration, and removes it from there. It changes
// files alone: it asks no daemon and touches no network.
package hookdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/podnic/podnic/network/plan"
)

// Place says where libvirt looks for hooks: SysConfDir/libvirt/hooks, in the file system that begins at Root.
type Place struct{ Root, SysConfDir string }

// hookName is what the hook is called in qemu.d. libvirt runs what is there in alphabetical order.
const hookName = "podnic"

func (p Place) hooks() string  { return filepath.Join(p.Root, p.SysConfDir, "libvirt", "hooks") }
func (p Place) main() string   { return filepath.Join(p.hooks(), "qemu") }
func (p Place) dir() string    { return filepath.Join(p.hooks(), "qemu.d") }
func (p Place) target() string { return filepath.Join(p.dir(), hookName) }

// Installation is what Install or Uninstall did.
type Installation struct {
	Path string // of the hook
	// Changed is false if it was so already.
	Changed bool
	// Other is another qemu hook that is there: a daemon that found it when it started looks for others at each call
	// (virHookCall in src/util/virhook.c). A daemon that found none calls none.
	Other string
}

// Install puts a link to the program, by default the one that runs, into qemu.d. What is there under the name, and is
// not that, is a refusal.
func Install(place Place, program string) (*Installation, error) {
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
	}
	info, err := os.Stat(filepath.Join(place.Root, program))
	if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return nil, plan.Refuse("there is no program %s below %s: name podnic's path there with --program", program, place.Root)
	}
	if info, err := os.Stat(filepath.Dir(place.hooks())); err != nil || !info.IsDir() {
		return nil, plan.Refuse("there is no directory %s: install libvirt, or name its directory of configuration with --sysconfdir", filepath.Dir(place.hooks()))
	}
	r := &Installation{Path: place.target(), Other: place.other()}
	switch there, err := place.there(program, info); {
	case err != nil:
		return nil, err
	case there:
		return r, nil
	}
	if err := os.MkdirAll(place.dir(), 0o755); err != nil {
		return nil, fmt.Errorf("install the hook: %w", err)
	}
	if err := os.Symlink(program, r.Path); err != nil {
		return nil, fmt.Errorf("install the hook: %w", err)
	}
	r.Changed = true
	return r, nil
}

// there reports whether the hook is what Install would make it, and refuses what else has its name.
func (p Place) there(program string, info fs.FileInfo) (bool, error) {
	have, err := os.Lstat(p.target())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look at the hook: %w", err)
	case os.SameFile(have, info):
		return true, nil // the program itself lies there
	case have.Mode()&fs.ModeSymlink == 0:
		return false, plan.Refuse("%s exists and is not podnic's link: move it away first", p.target())
	}
	link, err := os.Readlink(p.target())
	if err != nil {
		return false, fmt.Errorf("look at the hook: %w", err)
	}
	if link != program {
		return false, plan.Refuse("%s is a link to %s already: run `podnic hook uninstall` first", p.target(), link)
	}
	return true, nil
}

// other is a qemu hook besides podnic's, empty when there is none.
func (p Place) other() string {
	entries, _ := filepath.Glob(filepath.Join(p.dir(), "*"))
	for _, path := range append([]string{p.main()}, entries...) {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 && path != p.target() {
			return path
		}
	}
	return ""
}

// Uninstall removes the link, and the directories that it leaves empty. What is not a link is a refusal.
func Uninstall(place Place) (*Installation, error) {
	r := &Installation{Path: place.target(), Other: place.other()}
	info, err := os.Lstat(r.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r, nil
	case err != nil:
		return nil, fmt.Errorf("uninstall the hook: %w", err)
	case info.Mode()&fs.ModeSymlink == 0:
		return nil, plan.Refuse("%s is not a link that `podnic hook install` made: remove it by hand", r.Path)
	}
	if err := os.Remove(r.Path); err != nil {
		return nil, fmt.Errorf("uninstall the hook: %w", err)
	}
	r.Changed = true
	for _, dir := range []string{place.dir(), place.hooks()} {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			break
		}
		if err := os.Remove(dir); err != nil {
			return r, fmt.Errorf("remove the empty directory: %w", err)
		}
	}
	return r, nil
}
