package cni

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/cmd/cni"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// alter changes a JSON file of an attachment.
func (s *site) alter(name string, change func(object)) {
	s.t.Helper()
	path := filepath.Join(s.state, s.pod.Name+"@"+pod.Interface, name)
	b, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	var content object
	if err := json.Unmarshal(b, &content); err != nil {
		s.t.Fatal(err)
	}
	change(content)
	if b, err = json.Marshal(content); err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// TestRecordsReachNothingElse has the records name files, settings, links and directories that are none of the attachment's.
// CHECK says so, ADD refuses, and DEL and GC do nothing about them.
func TestRecordsReachNothingElse(t *testing.T) {
	const keep = "not podnic's"
	for name, test := range map[string]struct {
		file   string
		change func(s *site, victim string, content object)
		said   string
	}{
		"a file as a setting": {"eth0/provision.json", func(_ *site, victim string, p object) {
			p["sysctls"].(object)["../.."+victim+"/file"] = "written by podnic"
		}, "not a setting"},
		"what a setting cannot hold": {"eth0/provision.json", func(_ *site, _ string, p object) {
			p["sysctls"].(object)["net/ipv4/conf/all/rp_filter"] = "2\n"
		}, "cannot hold"},
		"a name that is a path": {"eth0/provision.json", func(_ *site, victim string, p object) {
			p["links"] = object{"interface": "../" + victim, "nic": "n", "bridge": "b", "tap": "t"}
		}, "name of a link"},
		"another interface's filter": {"eth0/provision.json", func(s *site, _ string, p object) {
			podtest.In(s.t, s.pod, "nft add table bridge podnic-net1")
			p["links"] = object{"interface": "net1", "nic": "n", "bridge": "b", "tap": "t"}
		}, `"net1"`},
		"another container": {"attachment.json", func(_ *site, victim string, a object) {
			a["containerID"], a["ifname"] = "../../../.."+victim+"/", ""
		}, "of the container"},
		"no namespace's path": {"attachment.json", func(_ *site, _ string, a object) { a["netns"] = "fifo" }, "path of a namespace"},
		"no such binding":     {"attachment.json", func(_ *site, _ string, a object) { a["binding"] = "none" }, "no binding"},
		"no link's name":      {"attachment.json", func(_ *site, _ string, a object) { a["interface"] = "a/b" }, "name of a link"},
	} {
		for _, command := range []string{"DEL", "GC"} {
			t.Run(name+" "+command, func(t *testing.T) {
				s := newSite(t)
				victim := t.TempDir()
				for _, file := range []string{"file", "@"} {
					if err := os.WriteFile(filepath.Join(victim, file), []byte(keep), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				list := s.network("1.1.0", mains["ptp"], podnic(nil))
				made := s.mustAdd(list, s.pod)
				s.alter(test.file, func(content object) { test.change(s, victim, content) })

				_, err := s.podnic(call{command: "CHECK", list: list, prev: made})
				if err == nil || !strings.Contains(err.Error(), test.said) {
					t.Errorf("CHECK: %v, want %q", err, test.said)
				}
				_, err = s.podnic(call{command: "ADD", list: list, prev: made})
				s.fails(err, cni.CodeRefused, test.said)
				_, err = s.podnic(call{command: command, list: list, prev: made, keys: object{"cni.dev/valid-attachments": []any{}}})
				if err != nil {
					t.Errorf("%s: %v", command, err)
				}
				for _, file := range []string{"file", "@"} {
					if text, err := os.ReadFile(filepath.Join(victim, file)); err != nil || string(text) != keep {
						t.Errorf("%s is now %q, %v", file, text, err)
					}
				}
				if name == "another interface's filter" && !strings.Contains(podtest.In(s.t, s.pod, "nft list tables"), "podnic-net1") {
					t.Error("the filter is gone")
				}
			})
		}
	}
}

// TestFifosAreNotWaitedFor has one where a file is expected that the runtime or the configuration names.
func TestFifosAreNotWaitedFor(t *testing.T) {
	s := newSite(t)
	made := s.mustAdd(s.network("1.1.0", mains["ptp"]), s.pod)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	list := s.network("1.1.0", podnic(nil))
	rt := &libcni.RuntimeConf{ContainerID: "c", NetNS: fifo, IfName: "eth0"}
	_, err := s.podnic(call{command: "ADD", list: list, rt: rt, prev: made})
	s.fails(err, 3, "not a network namespace", fifo)
	s.mustPodnic(call{command: "DEL", list: list, rt: rt, prev: made})
	s.mustPodnic(call{command: "STATUS", list: list, keys: object{"logFile": fifo}})
}

// TestAStrangersLockIsNotWaitedFor has a process of the pod without any capability hold what it can, while a runtime calls.
func TestAStrangersLockIsNotWaitedFor(t *testing.T) {
	s := newSite(t)
	list, before, made := s.attach(podnic(nil))
	s.mustPodnic(call{command: "DEL", list: list, prev: made})

	podtest.Squat(t, s.pod.Path, podtest.Stranger+"flock /proc/self/ns/net "+podtest.Hold)
	for _, command := range []string{"ADD", "CHECK", "ADD", "DEL"} {
		if err := os.Truncate(s.log, 0); err != nil {
			t.Fatal(err)
		}
		s.mustPodnic(call{command: command, list: list, prev: made})
		if command == "CHECK" { // takes no lock
			continue
		}
		if log := s.logged(); !strings.Contains(log, "of uid 107") || !strings.Contains(log, "flock /proc/self/ns/net") {
			t.Errorf("%s does not say who holds the lock: %s", command, log)
		}
	}
	s.same(before, s.pod)
}
