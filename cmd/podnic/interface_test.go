package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// requested is what a command line and a configuration file ask of package network, or why they cannot be used.
func requested(t *testing.T, config string, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "podnic.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &app{started: time.Now(), out: &bytes.Buffer{}, err: &bytes.Buffer{}}
	root := a.root()
	var text string
	root.AddCommand(&cobra.Command{Use: "probe", RunE: func(*cobra.Command, []string) error {
		req, err := a.common.request("")
		if err != nil {
			return err
		}
		all := req.Interfaces
		if len(all) == 0 {
			all = append(all, req.Options)
		}
		var words []string
		for _, o := range all {
			words = append(words, strings.Join(strings.Fields(fmt.Sprint(o.Interface, " ", o.Binding, " ", o.Tap, " ", o.Socket, " ", o.Queues, " ", o.IPv6,
				" ", o.PodPorts, " ", o.GuestPorts)), " "))
		}
		if req.All {
			words = append(words, "all")
		}
		text = strings.Join(words, "; ")
		return nil
	}})
	root.SetArgs(append([]string{"probe", "--config", file}, args...))
	if err := root.Execute(); err != nil {
		return err.Error()
	}
	return text
}

// TestInterfacesOnTheCommandLineAndInTheFile: what is said of one comes before what is said of all, and the command line before
// the file.
func TestInterfacesOnTheCommandLineAndInTheFile(t *testing.T) {
	const two = "interfaces:\n- eth0\n- {name: net1, tap: tap9, queues: 2, socket: udp, binding: bridge}\n"
	for _, test := range []struct {
		config, args, want string
	}{
		{"", "", "0"},
		{"", "--interface eth0", "eth0 0"},
		{"", "--interface eth0 --interface net1,tap=tap9,queues=2,socket=udp,binding=bridge,ipv6=off --queues 3", "eth0 3; net1 bridge tap9 udp 2 off"},
		{"", "--interface all --queues 3", "3; all"},
		{"interface: eth0\n", "", "eth0 0"},
		{two, "", "eth0 0; net1 bridge tap9 udp 2"},
		{two, "--interface net2", "net2 0"},
		{"interfaces: all\n", "", "0; all"},
		{"", "--binding shared --pod-ports 8080,80/tcp --guest-ports 22", "shared 0 80/tcp,8080 22"},
		{"", "--interface eth0,binding=shared,pod-ports=80/tcp,8080-8083,guest-ports=22,53/udp,queues=2", "eth0 shared 2 80/tcp,8080-8083 22,53/udp"},
		{"interfaces:\n- {name: eth0, binding: shared, pod-ports: [80/tcp, 8080], guest-ports: 22}\n", "", "eth0 shared 0 80/tcp,8080 22"},
		{"pod-ports: [80/tcp, 8080]\n", "--guest-ports 1-9 --guest-ports 22/udp", "0 80/tcp,8080 1-9,22/udp"},
	} {
		if diff := cmp.Diff(test.want, requested(t, test.config, strings.Fields(test.args)...)); diff != "" {
			t.Errorf("%q %s:\n%s", test.config, test.args, diff)
		}
	}
	for _, test := range []struct {
		config, args, says string
	}{
		{"", "--interface eth0,tap", "KEY=VALUE"},
		{"", "--interface eth0,tap=", "KEY=VALUE"},
		{"", "--interface eth0,mtu=9", `no key "mtu"`},
		{"", "--interface eth0,tap=a,tap=b", "tap is given twice"},
		{"", "--interface eth0,mac=02:00:00:00:00:01", "have the network give the interface 02:00:00:00:00:01"},
		{"", "--interface eth0,queues=many", "takes a number"},
		{"", "--interface eth0,pod-ports=80/sctp", "neither /tcp nor /udp"},
		{"", "--interface eth0,tap=a,80", "KEY=VALUE"},
		{"", "--pod-ports 90-80", "--pod-ports: \"90-80\" starts after it ends"},
		{"", "--interface a/b", `"a/b" cannot be the name`},
		{"", "--interface eth0 --interface eth0", "eth0 is named twice"},
		{"", "--interface all --interface eth0", "all excludes other interfaces"},
		{"", "--interface eth0 --interface net1 --tap tap7", "cannot both have the tap tap7"},
		{"", "--interface all --tap tap7", "leave --tap out"},
		{"interface: eth0\ninterfaces: [net1]\n", "", "keep one of them"},
		{"interfaces: [{tap: tap1}]\n", "", "no name"},
		{"interfaces: {name: eth0}\n", "", "takes a list"},
	} {
		if got := requested(t, test.config, strings.Fields(test.args)...); !strings.Contains(got, test.says) {
			t.Errorf("%q %s: %q does not say %q", test.config, test.args, got, test.says)
		}
	}
}

// TestAttachTakesWhatTheConfigurationSaysOfItsInterface, and nothing that it says of others. Nothing is there to attach.
func TestAttachTakesWhatTheConfigurationSaysOfItsInterface(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte("interfaces:\n- eth0\n- {name: net1, pod-ports: none}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"net1": "podnic: " + file + ": interface: net1: pod-ports: ", "net3,queues=x": "podnic: attach: net3: queues takes a number", "eth0": "podnic: no network namespace at ", "net2": "podnic: no network namespace at ",
	} {
		var out, stderr bytes.Buffer
		status := execute([]string{"attach", name, "--config", file, "--netns", file + "/none"}, time.Now(), &out, &stderr)
		if status != 2 || !strings.HasPrefix(stderr.String(), want) {
			t.Errorf("%s: status %d, %s", name, status, stderr.String())
		}
	}
}
