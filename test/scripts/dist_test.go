package scripts

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podnic/podnic/test/podtest"
)

// distStub is in the place of scripts/dist: two files, the second of which has the build's directory in it.
const distStub = `#!/bin/bash
mkdir -p "$1"
git -C "$(dirname "$0")/.." describe --always >"$1/SHA256SUMS"
echo "$0 is DIFFERENT" | sed "$SED" >>"$1/SHA256SUMS"
`

// TestDistIsComparedInACheckoutOfAnotherUser, as a container's is: git clones such a one only when it is told to.
func TestDistIsComparedInACheckoutOfAnotherUser(t *testing.T) {
	podtest.NeedRoot(t)
	checkout := t.TempDir()
	text, err := os.ReadFile("../../scripts/dist-twice")
	if err == nil {
		err = errors.Join(os.Mkdir(filepath.Join(checkout, "scripts"), 0o755),
			os.WriteFile(filepath.Join(checkout, "scripts", "dist-twice"), text, 0o755),
			os.WriteFile(filepath.Join(checkout, "scripts", "dist"), []byte(distStub), 0o755))
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
	for _, test := range []struct{ sed, says string }{
		{"s/.*/the same/", "are the same 2 files"},
		{"", "these files differ"},
	} {
		cmd := exec.Command("scripts/dist-twice")
		cmd.Dir, cmd.Env = checkout, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GOCACHE=" + t.TempDir(), "SED=" + test.sed}
		out, err := cmd.CombinedOutput()
		if (err == nil) != (test.sed != "") || !strings.Contains(string(out), test.says) {
			t.Errorf("%v: %s", err, out)
		}
	}
}

// TestPackageRunsNothing when it is installed, upgraded or removed: it has no maintainer script, and no unit of systemd's, which
// debhelper's tools would start.
func TestPackageRunsNothing(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../scripts/dist")
	if err != nil {
		t.Fatal(err)
	}
	_, config, began := strings.Cut(string(text), "nfpm.yaml\" <<-EOF\n")
	config, _, ended := strings.Cut(config, "\n\tEOF\n")
	if !ended {
		config, _, ended = strings.Cut(config, "\nEOF\n")
	}
	if !began || !ended || !strings.Contains(config, "dst: /usr/bin/podnic,") {
		t.Fatalf("scripts/dist does not write the package's description as it did:\n%s", config)
	}
	for line := range strings.Lines(config) {
		for _, word := range []string{"scripts:", "preinst", "postinst", "prerm", "postrm", "triggers:", "overrides:", "/systemd/", "/init.d/"} {
			if strings.Contains(line, word) {
				t.Errorf("the package has more than files: %s", line)
			}
		}
	}
}

// TestImageOfAReleaseIsTheContainerfiles holds what scripts/distimage writes to the stage `podnic` of deploy/Containerfile.
func TestImageOfAReleaseIsTheContainerfiles(t *testing.T) {
	t.Parallel()
	containerfile, err := os.ReadFile("../../deploy/Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile("../../scripts/distimage/main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, stage, _ := strings.Cut(string(containerfile), " AS podnic\n")
	stage, _, _ = strings.Cut(stage, "\nFROM ")
	has := func(pattern, in string) (all []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(in, -1) {
			all = append(all, strings.Join(m[1:], "="))
		}
		slices.Sort(all)
		return all
	}
	for what, patterns := range map[string][2]string{
		"labels":     {`(org\.opencontainers\.image\.\w+)=`, `"(org\.opencontainers\.image\.\w+)":`},
		"constants":  {`(org\.opencontainers\.image\.\w+)=("[^$"]+")`, `"(org\.opencontainers\.image\.\w+)": +("[^"]+")`},
		"user":       {`USER (\S+)`, `User: +"([^"]+)"`},
		"entrypoint": {`ENTRYPOINT \["([^]]+)"\]`, `Entrypoint: +\[\]string\{"([^}]+)"\}`},
		"programs":   {`/src/bin/(podnic[a-z-]*) `, ""},
	} {
		in, of := has(patterns[0], stage), has(patterns[1], string(program))
		if what == "programs" { // of the one loop that has them
			of = has(`"(podnic[a-z-]*)"`, string(regexp.MustCompile(`range \[\]string\{"podnic".*`).Find(program)))
		}
		if diff := cmp.Diff(in, of); diff != "" || len(in) == 0 {
			t.Errorf("%s (deploy/Containerfile is -, scripts/distimage +): %s", what, diff)
		}
	}
}
