package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// TestLibvirtsCallsAreTold from those of somebody at a terminal.
func TestLibvirtsCallsAreTold(t *testing.T) {
	for line, want := range map[string]string{
		"/etc/libvirt/hooks/qemu vm prepare begin -":            "vm prepare begin -",
		"/etc/libvirt/hooks/qemu.d/podnic vm prepare begin -":   "vm prepare begin -",
		"/usr/etc/libvirt/hooks/qemu.d/10-net vm start begin -": "vm start begin -",
		"qemu vm release end destroyed":                         "vm release end destroyed",
		"podnic hook vm prepare begin -":                        "vm prepare begin -",
		"/usr/bin/podnic hook install prepare begin -":          "install prepare begin -",
		"podnic hook install":                                   "",
		"podnic hook install --root / --sysconfdir=/etc":        "",
		"podnic hook uninstall --root /":                        "",
		"podnic hook --hook.timeout=1s vm prepare begin -":      "",
		"podnic hook":                             "",
		"podnic":                                  "",
		"podnic status -o json --wait":            "",
		"podnic vm prepare begin -":               "",
		"/etc/libvirt/hooks/qemu.d/podnic":        "",
		"/etc/libvirt/hooks/qemu.d/podnic status": "",
		"/etc/libvirt/hooks/qemu.d/podnic hook install --root /x": "",
		"/etc/libvirt/hooks/qemu.d/podnic hook vm start begin -":  "vm start begin -",
		"/etc/libvirt/hooks/qemu.d/podnic hook prepare begin -":   "hook prepare begin -",
		"/etc/libvirt/hooks/qemu.d/podnic status -o json --log":   "",
		"/srv/qemu.d/podnic vm prepare begin -":                   "",
	} {
		args, is := hookArgs(strings.Fields(line))
		if got := strings.Join(args, " "); is != (want != "") || is && got != want {
			t.Errorf("%s: %q, %v", line, got, is)
		}
	}
}

// TestServerIsToldWhatTheHookWas by whatever way: its own command line is all that it has.
func TestServerIsToldWhatTheHookWas(t *testing.T) {
	file := filepath.Join(t.TempDir(), "podnic.yaml")
	config := "binding: redirect\nqueues: 2\nlock-timeout: 3s\nspoof-guard: true\nhook: {domains: [vm-*], timeout: 3s}\nsearch: [a.example, b.example]\noption: ['250=text:a,b']\n"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PODNIC_LEASE_TIME", "1h")
	a := &app{started: time.Now(), out: &bytes.Buffer{}, err: &bytes.Buffer{}}
	root := a.root()
	var args []string
	hook, _, err := root.Find([]string{"hook"})
	if err != nil {
		t.Fatal(err)
	}
	hook.RunE = func(cmd *cobra.Command, _ []string) error {
		args = serveArgs(cmd.Flags())
		return nil
	}
	root.SetArgs([]string{"hook", "--config", file, "--state-dir", "/s", "--", "vm", "prepare", "begin", "-"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	want := []string{"--lease-time=1h", "--option=250=text:a,b", "--search=a.example", "--search=b.example", "--state-dir=/s"}
	if diff := cmp.Diff(want, args); diff != "" {
		t.Error(diff)
	}

	// And the server understands it.
	serve, _, err := root.Find([]string{"serve"})
	if err == nil {
		err = serve.ParseFlags(args)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestHookReadsItsSettingsBeforeFlags are there.
func TestHookReadsItsSettingsBeforeFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "podnic.yaml")
	if err := os.WriteFile(file, []byte("hook: {domains: ['a-*', 'b,c'], timeout: 3s}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PODNIC_CONFIG", file)
	patterns, timeout, err := hookSettings()
	if diff := cmp.Diff([]string{"a-*", "b", "c"}, patterns); diff != "" || timeout != 3*time.Second || err != nil {
		t.Errorf("%s %v %v", diff, timeout, err)
	}
	t.Setenv("PODNIC_HOOK_DOMAINS", "d")
	t.Setenv("PODNIC_HOOK_TIMEOUT", "4s")
	if patterns, timeout, _ := hookSettings(); len(patterns) != 1 || patterns[0] != "d" || timeout != 4*time.Second {
		t.Errorf("%v %v", patterns, timeout)
	}
}

// TestHookGivesBackWhateverTheConfigurationSays: what cannot be wired, or served, need not be.
func TestHookGivesBackWhateverTheConfigurationSays(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settings")
	if err := os.WriteFile(file, []byte("queues: 300\ninterfaces: [{name: eth0, socket: nonsense}]\nmtu: -3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for call, want := range map[string]string{
		"vm prepare begin -": "a tap has 1 to 256 queues", "vm start begin -": "a tap has 1 to 256 queues",
		"vm stopped end -": "domain XML", "vm release end -": "domain XML", // which is the next that is looked at
	} {
		var out, stderr bytes.Buffer
		args := append([]string{"hook", "--config", file, "--netns", file, "--"}, strings.Fields(call)...)
		if status := executeFrom(strings.NewReader(""), args, time.Now(), &out, &stderr); status != 2 || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: status %d, %s", call, status, stderr.String())
		}
	}
}
