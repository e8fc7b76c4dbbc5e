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
	for config, want := range map[string]string{
		"queues: 300\ninterfaces: [{name: eth0, socket: nonsense}]\nmtu: -3\n": "a tap has 1 to 256 queues",
		"interfaces: [{name: eth0, socket: nonsense}]\n":                       `no socket is called "nonsense"`,
		"tap-owner: -7\n":                              "--tap-owner takes a number from 0",
		"tap-group: root\n":                            "--tap-group takes a whole number",
		"pod-ports: [80/sctp]\n":                       "--pod-ports: ",
		"guest-ports: ['\"']\n":                        "--guest-ports takes values",
		"interface: 'eth0,queues=x'\n":                 "queues takes a number",
		"interfaces: [{name: eth0, colour: red}]\n":    `there is no key "colour"`,
		"interfaces: [{name: eth0, tap: [[a]]}]\n":     "interfaces: tap takes a text",
		"interfaces: [a/b]\n":                          "cannot be the name of an interface",
		"interfaces: [eth0, eth0]\n":                   "eth0 is named twice",
		"interfaces: [eth0, all]\n":                    "all excludes other interfaces",
		"interfaces: all\ntap: tap7\n":                 "all cannot have the one tap",
		"colour: red\n":                                `there is no setting "colour"`,
		"log-level: loud\n":                            "loud",
		"lock-timeout: -3s\n":                          "must not be negative",
		"hook.timeout: 1ms\n":                          "hook.timeout takes a duration of at least",
		"hook: {timeout: soon}\n":                      "hook.timeout takes a duration",
		"a: [\n":                                       "cannot be read as YAML",
		"just text":                                    "is not a YAML map",
		"tap: a\ntap: b\n":                             "already set in map",
		"interface: eth0\ninterfaces: [{tap: tap1}]\n": "exclude each other",
	} {
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, call := range []string{"vm prepare begin -", "vm start begin -", "vm stopped end -", "vm release end -"} {
			var out, stderr bytes.Buffer
			args := append([]string{"hook", "--config", file, "--netns", file, "--"}, strings.Fields(call)...)
			status := executeFrom(strings.NewReader(""), args, time.Now(), &out, &stderr)
			lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
			last := lines[len(lines)-1]
			if !strings.Contains(stderr.String(), want) {
				t.Errorf("%q, %s: it does not say %q: %s", config, call, want, stderr.String())
			}
			// The domain is the next that is looked at.
			if ends := strings.Contains(call, "end"); status != 2 || ends != strings.Contains(last, "domain XML") || ends != strings.HasPrefix(lines[0], "podnic: warning: ") {
				t.Errorf("%q, %s: status %d, %s", config, call, status, stderr.String())
			}
		}
	}
	if err := os.WriteFile(file, []byte("state-dir: /s\nstate-dir: /s\ntap-owner: -7\ninterfaces: [eth0, {name: net1, queues: x, tap: tap5}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &app{started: time.Now(), out: &bytes.Buffer{}, err: &bytes.Buffer{}}
	a.common.unchecked = true
	root := a.root()
	root.AddCommand(&cobra.Command{Use: "probe", RunE: func(*cobra.Command, []string) error {
		req, err := a.common.request("")
		if err != nil || req.StateDir != "/s" || len(req.Interfaces) != 2 || req.Interfaces[0].Interface != "eth0" ||
			req.Interfaces[1].Interface != "net1" || req.Interfaces[1].Tap != "tap5" || req.Interfaces[1].Queues != 0 || req.Interfaces[1].TapOwner != nil {
			t.Errorf("what can be read is not kept: %v, %+v", err, req)
		}
		return nil
	}})
	root.SetArgs([]string{"probe", "--config", file})
	if err := root.Execute(); err != nil {
		t.Error(err)
	}
}
