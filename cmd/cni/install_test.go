package cni

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestInstallReplacesWhatIsThere(t *testing.T) {
	from, bin, conf := t.TempDir(), t.TempDir(), t.TempDir()
	for path, text := range map[string]string{
		filepath.Join(from, "program"): "new program", filepath.Join(from, "podnic.conflist"): "new network",
		filepath.Join(bin, "podnic"): "an older and longer program", filepath.Join(bin, ".podnic.new"): "left over",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Install(filepath.Join(from, "program"), bin, filepath.Join(from, "podnic.conflist"), conf); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct {
		text string
		mode fs.FileMode
	}{
		filepath.Join(bin, "podnic"):           {"new program", 0o755},
		filepath.Join(conf, "podnic.conflist"): {"new network", 0o644},
	} {
		text, err := os.ReadFile(path)
		if err != nil || string(text) != want.text {
			t.Errorf("%s holds %q: %v", path, text, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want.mode {
			t.Errorf("%s: %v, want mode %v", path, info, want.mode)
		}
	}
	for _, dir := range []string{bin, conf} {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("%s holds %v: %v", dir, entries, err)
		}
	}
	if err := Install(filepath.Join(from, "program"), filepath.Join(bin, "none"), "", ""); err == nil {
		t.Error("installed into a directory that is not there")
	}
}
