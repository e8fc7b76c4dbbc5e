package scripts

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/podnic/podnic/test/podtest"
)

// TestMakeWorksInACheckoutOfAnotherUser runs make as root, to whom git says nothing about such a one by itself: then go build
// fails, and the version is unknown.
func TestMakeWorksInACheckoutOfAnotherUser(t *testing.T) {
	podtest.NeedRoot(t)
	checkout := t.TempDir()
	text, err := os.ReadFile("../../Makefile")
	if err == nil {
		err = os.WriteFile(filepath.Join(checkout, "Makefile"), text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	commit(t, checkout)
	err = filepath.WalkDir(checkout, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, 1000, 1000))
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("make", "--no-print-directory", "--eval", "look: ; @git status --short && echo version $(VERSION)", "look")
	cmd.Dir, cmd.Env = checkout, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "version ") || strings.Contains(string(out), "unknown") {
		t.Errorf("%v: %s", err, out)
	}
}

// commit makes a repository of the files in a directory.
func commit(t *testing.T, dir string) {
	t.Helper()
	for _, args := range [][]string{{"init", "-q"}, {"add", "-A"}, {"commit", "-q", "-m", "a checkout"}} {
		git := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=x", "-c", "user.email=x@x.example"}, args...)...)
		if out, err := git.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", git, err, out)
		}
	}
}

// TestInstallPutsEachFileInItsPlace installs into a directory, as README.md has it. Uninstall takes these files, all of them and no
// other.
func TestInstallPutsEachFileInItsPlace(t *testing.T) {
	podtest.NeedRoot(t) // make check builds enough
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil || !strings.Contains(string(readme), "    make install ") {
		t.Fatalf("README.md does not say how to install (%v)", err)
	}
	dir := t.TempDir()
	if out, err := exec.Command("make", "-C", "../..", "install", "DESTDIR="+dir, "BIN="+t.TempDir()).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, path := range []string{
		"bin/podnic", "bin/podnic-libvirt", "bin/podnic-sidecar", "share/man/man1/podnic.1", "share/man/man1/podnic-run.1", "share/bash-completion/completions/podnic",
	} {
		if info, err := os.Stat(filepath.Join(dir, "usr/local", path)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", path, err)
		}
	}

	var others []string
	for _, path := range []string{"bin/podnic-other", "share/man/man1/podnic-other.1", "share/bash-completion/completions/other"} {
		path = filepath.Join(dir, "usr/local", path)
		if err := os.WriteFile(path, []byte("another's"), 0o644); err != nil {
			t.Fatal(err)
		}
		others = append(others, path)
	}
	if out, err := exec.Command("make", "-C", "../..", "uninstall", "DESTDIR="+dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var left []string
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			left = append(left, path)
		}
		return err
	})
	if err != nil || !slices.Equal(slices.Sorted(slices.Values(left)), slices.Sorted(slices.Values(others))) {
		t.Errorf("after make uninstall there are %v, not %v (%v)", left, others, err)
	}
}

// TestHelpListsEveryTarget that the Makefile declares.
func TestHelpListsEveryTarget(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("make", "--no-print-directory", "-C", "../..", "help").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, targets, _ := strings.Cut(string(text), "\n.PHONY: ")
	targets, _, _ = strings.Cut(targets, "\n")
	for target := range strings.FieldsSeq(targets) {
		if !strings.Contains(string(out), "  make "+target+" ") {
			t.Errorf("make help does not list %s", target)
		}
	}
}

// TestEarlierSaysWhatItLacks, before it builds anything.
func TestEarlierSaysWhatItLacks(t *testing.T) {
	podtest.NeedRoot(t)
	t.Parallel()
	const nowhere = "0123456789012345678901234567890123456789"
	for want, c := range map[string]struct {
		commit   string
		programs map[string]string
	}{
		"strace is not here":                 {"HEAD", map[string]string{"git": "git", "id": "id"}},
		"commit " + nowhere + " is not here": {nowhere, map[string]string{"git": "git", "id": "id", "strace": "true"}},
	} {
		dir := t.TempDir()
		for name, program := range c.programs {
			path, err := exec.LookPath(program)
			if err == nil {
				err = os.Symlink(path, filepath.Join(dir, name))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("make", "--no-print-directory", "-C", "../..", "earlier", "EARLIER="+c.commit)
		cmd.Env = append(os.Environ(), "PATH="+dir)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.HasPrefix(string(out), "earlier: "+want) {
			t.Errorf("%v: %s, want %q", err, out, want)
		}
	}
}

// TestMatrixIsTheWorkflows: what a release is tried on by make is what the workflow has a job for, and what CONTRIBUTING.md has a
// row for.
func TestMatrixIsTheWorkflows(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("make", "--no-print-directory", "-C", "../..", "--eval", "look: ; @echo $(MATRIX)", "look").Output()
	if err != nil {
		t.Fatal(err)
	}
	targets := strings.Fields(string(out))
	if len(targets) < 7 {
		t.Errorf("the matrix is %q", targets)
	}
	workflow, err := os.ReadFile("../../.github/workflows/matrix.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if want := "target: [" + strings.Join(targets, ", ") + "]"; !strings.Contains(string(workflow), want) {
		t.Errorf("matrix.yaml does not have %q", want)
	}
	page, err := os.ReadFile("../../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range targets {
		if !strings.Contains(string(page), "\n| `make "+target+"` |") {
			t.Errorf("CONTRIBUTING.md has no row for make %s", target)
		}
	}
}
