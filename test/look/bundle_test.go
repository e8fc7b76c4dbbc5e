package look

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// unpack reads an archive into memory.
func unpack(t *testing.T, archive io.Reader) map[string]string {
	t.Helper()
	compressed, err := gzip.NewReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for in := tar.NewReader(compressed); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(header.Name, "podnic-bundle/")] = string(text)
	}
}

// podChecks are the checks that say the same on every machine.
const podChecks = "pod,wiring,resolver,mtu,libvirt-network,ports"

// planted is a secret that must not be in a bundle, in any form.
const planted = "Tr0ub4dor-and-3"

// TestBundleHoldsWhatAReportNeedsAndNothingSecret plants a secret wherever podnic could come by one: the running domain's
// XML, the environment, an option of the command line, and a log.
func TestBundleHoldsWhatAReportNeedsAndNothingSecret(t *testing.T) {
	t.Parallel()
	s := newSite(t, pod.PTP)
	daemon := podtest.Libvirtd(t, s.Pod)
	dir := t.TempDir()
	xml, err := guest.Domain{
		Name: "vm", Image: podtest.Guest(t), KVM: daemon.KVM, Console: filepath.Join(dir, "console"),
		Arguments: []string{"cloud-init-token=" + planted},
	}.XML()
	if err != nil {
		t.Fatal(err)
	}
	xml = strings.Replace(xml, "</name>", "</name><metadata><site:x xmlns:site='urn:site'>"+planted+"</site:x></metadata><description>"+planted+"</description>", 1)
	xml = strings.Replace(xml, "</devices>", "<graphics type='vnc' passwd='"+planted[:8]+"' listen='127.0.0.1'/></devices>", 1)
	file := filepath.Join(dir, "domain.xml")
	if err := os.WriteFile(file, []byte(xml), 0o600); err != nil {
		t.Fatal(err)
	}
	run := s.Pod.Command(context.Background(), s.Podnic, "run", "--domain", file, "--connect", daemon.URI, "--state-dir", s.StateDir, "--grace", "0s",
		"--option", "224=string:"+planted)
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = run.Process.Signal(os.Interrupt)
		_ = run.Wait() // the guest was not asked to shut down, and that is its status
	})
	s.Must("status", "--wait", "ready", "--timeout", patience)
	documented(t, "status.md", "status", s.Must("status"))
	documented(t, "doctor.md", "doctor --only "+podChecks, s.Must("doctor", "--only", podChecks))
	log := "{\"msg\":\"the daemon said: password=" + planted + "\"}\nthe end\n"
	logs := filepath.Join(s.StateDir, ".podnic")
	if err := errors.Join(os.Mkdir(logs, 0o755), os.WriteFile(filepath.Join(logs, "hook.log"), []byte(log), 0o600)); err != nil {
		t.Fatal(err)
	}

	bundle := filepath.Join(dir, "bundle.tgz")
	bundleTo := func(path string) (string, string, int) {
		cmd := s.Pod.Command(t.Context(), s.Podnic, "doctor", "bundle", path, "--state-dir", s.StateDir, "--connect", daemon.URI)
		cmd.Env = append(cmd.Env, "PODNIC_BOOT_FILE="+planted)
		return podtest.Run(s.T, cmd)
	}
	out, errs, status := bundleTo(bundle)
	if status != 0 {
		t.Fatalf("status %d: %s%s", status, out, errs)
	}
	documented(t, "doctor.md", "doctor bundle bundle.tgz", filepath.Base(out))
	archive, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	files := unpack(t, bytes.NewReader(archive))
	for name, says := range map[string]string{
		"README.txt": "Left out:", "version.txt": "Linux", "doctor.txt": "link-kinds", "doctor.json": `"findings"`,
		"status.txt": "ready, the guest has", "status.json": `"phase": "ready"`, "interfaces/eth0/record.json": `"original"`, "interfaces/eth0/state.json": `"timeline"`,
		"network.json": "podnic-eth0", "settings.txt": "net.ipv4.ip_forward", "environment.txt": "PODNIC_BOOT_FILE",
		"domain.xml": `<target dev="tap0" managed="no"/>`, "logs/hook.log": "the end",
	} {
		if !strings.Contains(files[name], says) {
			t.Errorf("%s does not say %q:\n%s", name, says, files[name])
		}
	}
	hex := "54723075623464" // of its beginning, as options are written
	for name, text := range files {
		for _, secret := range []string{planted, planted[:8], hex} {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds a secret:\n%s", name, text)
			}
		}
		if name != "README.txt" && !strings.Contains(files["README.txt"], strings.Split(name, "/")[0]) {
			t.Errorf("the README does not say what %s is", name)
		}
	}
	if info, err := os.Stat(bundle); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v: %v", info.Mode(), err)
	}
	if _, errs, status := bundleTo(bundle); status != 2 || !strings.Contains(errs, "already exists") {
		t.Errorf("a second one: status %d: %s", status, errs)
	}
	if out, errs, status := bundleTo("-"); status != 0 || len(unpack(t, strings.NewReader(out))) != len(files) {
		t.Errorf("to standard output: status %d: %s", status, errs)
	}
}

// TestBundleWithoutPrivilegesSaysWhatIsMissing is made by somebody who may read nothing of podnic's.
func TestBundleWithoutPrivilegesSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	s := newSite(t, pod.Plain)
	s.Must("prepare")
	cmd := s.as("65533", "")
	cmd.Args = append(cmd.Args[:len(cmd.Args)-2:len(cmd.Args)-2], "bundle", "-", "--connect-timeout", "100ms")
	out, errs, status := podtest.Run(s.T, cmd)
	if status != 0 {
		t.Fatalf("status %d: %s", status, errs)
	}
	files := unpack(t, strings.NewReader(out))
	for name, says := range map[string]string{
		"unseen.txt": "interfaces/eth0/record.json: ", "status.txt": "eth0: wired", "network.json": "nftables: ", "doctor.txt": "lacks CAP_NET_ADMIN",
	} {
		if !strings.Contains(files[name], says) {
			t.Errorf("%s does not say %q:\n%s", name, says, files[name])
		}
	}
}
