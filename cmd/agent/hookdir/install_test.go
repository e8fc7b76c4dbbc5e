package hookdir

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/podnic/podnic/network"
)

// TestHookInstallIsUndone installs and uninstalls in file systems of several kinds. The hook is there in between, once
// however often it is installed, what else is there is not touched, and in the end all is as before.
func TestHookInstallIsUndone(t *testing.T) {
	const hooks = "etc/libvirt/hooks"
	for name, test := range map[string]struct {
		files   map[string]string // with a / at the end: a directory
		other   string
		refused string
	}{
		"no libvirt":          {refused: "--sysconfdir"},
		"libvirt, no hooks":   {files: map[string]string{"etc/libvirt/qemu.conf": "x"}},
		"a main script":       {files: map[string]string{hooks + "/qemu": "#!/bin/sh"}, other: hooks + "/qemu"},
		"a neighbour":         {files: map[string]string{hooks + "/qemu.d/zz": "#!/bin/sh"}, other: hooks + "/qemu.d/zz"},
		"a hook of networks":  {files: map[string]string{hooks + "/network": "#!/bin/sh"}},
		"somebody's script":   {files: map[string]string{hooks + "/qemu.d/podnic": "#!/bin/sh"}, refused: "move it away"},
		"somebody's link":     {files: map[string]string{hooks + "/qemu.d/podnic": "-> /opt/podnic"}, refused: "hook uninstall"},
		"somebody's dir":      {files: map[string]string{hooks + "/qemu.d/podnic/": ""}, refused: "move it away"},
		"qemu.d is not a dir": {files: map[string]string{hooks + "/qemu.d": "x"}, refused: "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			write(t, root, map[string]string{"usr/bin/podnic": "a program"})
			write(t, root, test.files)
			before := tree(t, root)
			place := Place{Root: root, SysConfDir: "/etc"}
			r, err := Install(place, "/usr/bin/podnic")
			if test.refused != "" {
				if err == nil || !strings.Contains(err.Error(), test.refused) {
					t.Errorf("%+v, %v", r, err)
				}
				if diff := cmp.Diff(before, tree(t, root)); diff != "" {
					t.Errorf("a refusal changed:\n%s", diff)
				}
				return
			}
			if err != nil || !r.Changed {
				t.Fatalf("%+v, %v", r, err)
			}
			want := ""
			if test.other != "" {
				want = filepath.Join(root, test.other)
			}
			if r.Other != want {
				t.Errorf("the hook beside it is %q, want %q", r.Other, want)
			}
			if link, err := os.Readlink(filepath.Join(root, hooks, "qemu.d/podnic")); err != nil || link != "/usr/bin/podnic" {
				t.Errorf("the link is to %q: %v", link, err)
			}
			if r, err := Install(place, "/usr/bin/podnic"); err != nil || r.Changed {
				t.Errorf("again: %+v, %v", r, err)
			}
			if r, err := Uninstall(place); err != nil || !r.Changed {
				t.Errorf("%+v, %v", r, err)
			}
			if r, err := Uninstall(place); err != nil || r.Changed {
				t.Errorf("again: %+v, %v", r, err)
			}
			if diff := cmp.Diff(before, tree(t, root)); diff != "" {
				t.Errorf("not as before:\n%s", diff)
			}
		})
	}
}

func TestHookIsNotInstalledWithoutAProgram(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"etc/libvirt/": ""})
	if _, err := Install(Place{Root: root, SysConfDir: "/etc"}, "/usr/bin/podnic"); !network.IsRefusal(err) || !strings.Contains(err.Error(), "--program") {
		t.Error(err)
	}
	if got := tree(t, root); len(got) != 2 {
		t.Errorf("it left %v", got)
	}
}

// TestUninstallRemovesNoProgram has the program itself lie there, as somebody put it.
func TestUninstallRemovesNoProgram(t *testing.T) {
	root := t.TempDir()
	const path = "etc/libvirt/hooks/qemu.d/podnic"
	write(t, root, map[string]string{path: "a program"})
	place := Place{Root: root, SysConfDir: "/etc"}
	if r, err := Install(place, "/"+path); err != nil || r.Changed {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := Uninstall(place); !network.IsRefusal(err) {
		t.Error(err)
	}
}

// write makes executable files, and what files says of directories and links.
func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		switch target, link := strings.CutPrefix(text, "-> "); {
		case err != nil:
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case link:
			err = os.Symlink(target, path)
		default:
			err = os.WriteFile(path, []byte(text), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// tree lists what is below a directory, with what is in the files.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		text := ""
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			text, err = os.Readlink(path)
		case d.Type().IsRegular():
			var b []byte
			b, err = os.ReadFile(path)
			text = string(b)
		}
		found[strings.TrimPrefix(path, root)] = text
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
