package cni

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/cmd/cni"
	"github.com/podnic/podnic/test/podtest"
)

// TestAddThatFailsLeavesThePodAsItWas gives ADD reasons to refuse, each with its code.
func TestAddThatFailsLeavesThePodAsItWas(t *testing.T) {
	s := newSite(t)
	made := s.mustAdd(s.network("1.1.0", mains["ptp"]), s.pod)
	tests := []struct {
		name string
		keys object
		pod  string // run in it before
		code uint
		word string
	}{
		{"no such binding", object{"binding": "macvtap"}, "", types.ErrInvalidNetworkConfig, `"macvtap"`},
		{"no such socket", object{"socket": "raw"}, "", types.ErrInvalidNetworkConfig, `"raw"`},
		{"a name for libvirt's own", object{"tap": "vnet0"}, "", types.ErrInvalidNetworkConfig, "vnet0"},
		{"more queues than taps have", object{"queues": 1000}, "", types.ErrInvalidNetworkConfig, "1000"},
		{"an owner that is no number", object{"owner": "qemu"}, "", types.ErrDecodingFailure, "owner"},
		{"an owner below zero", object{"owner": -1}, "", types.ErrDecodingFailure, "owner"},
		{"a level that does not exist", object{"logLevel": "loud"}, "", types.ErrDecodingFailure, "loud"},
		{"a directory by half a path", object{"stateDir": "state"}, "", types.ErrInvalidNetworkConfig, "stateDir"},
		{"KubeVirt's tap and an owner", object{"binding": "managedTap"}, "", types.ErrInvalidNetworkConfig, "owner"},
		{"a state directory that cannot be", object{"stateDir": "/proc/nowhere"}, "", cni.CodeRefused, "/proc/nowhere"},
		{"no such interface", object{"interface": "net7"}, "", cni.CodeRefused, "net7"},
		{"a name that is taken", object{"tap": "other0"}, "ip link add other0 type bridge", cni.CodeRefused, "other0"},
		{"a link of another kind", object{"interface": "other0"}, "ip link show other0", cni.CodeRefused, "bridge"},
	}
	for _, test := range tests {
		if test.pod != "" {
			podtest.In(s.t, s.pod, test.pod)
		}
		before := s.view(s.pod)
		_, err := s.podnic(call{command: "ADD", list: s.network("1.1.0", podnic(test.keys)), prev: made})
		t.Log(test.name)
		s.fails(err, test.code, test.word)
		s.same(before, s.pod)
		if left, err := os.ReadDir(s.state); err == nil && len(left) > 0 {
			t.Errorf("left in the state directory: %v", left)
		}
	}
}

// TestNamespacesThatAreNoPods names none, a file that is none, the node's own and the machine's.
func TestNamespacesThatAreNoPods(t *testing.T) {
	s := newSite(t)
	podtest.In(s.t, s.node.Namespace, "ip link add cni0 type bridge")
	node := s.view(s.node.Namespace)
	list := s.network("1.1.0", podnic(object{"interface": "nowhere0"}))
	machine := own(t)
	for path, want := range map[string]struct {
		code uint
		word string
	}{
		"/run/netns/nowhere": {types.ErrUnknownContainer, "no network namespace"},
		"/etc/hostname":      {types.ErrUnknownContainer, "not a network namespace"},
		s.node.Path:          {cni.CodeRefused, "node's"},
		machine:              {cni.CodeRefused, "machine's own"},
	} {
		rt := &libcni.RuntimeConf{ContainerID: "c", NetNS: path, IfName: "nowhere0"}
		_, err := s.podnic(call{command: "ADD", list: list, rt: rt})
		s.fails(err, want.code, want.word)
	}
	s.same(node, s.node.Namespace)
	_, err := s.podnic(call{command: "ADD", list: list, rt: &libcni.RuntimeConf{ContainerID: "../c", NetNS: s.pod.Path, IfName: "eth0"}})
	s.fails(err, types.ErrInvalidEnvironmentVariables)
}

// own is the path of the namespace that the tests run in.
func own(t *testing.T) string {
	t.Helper()
	file, err := os.Open("/proc/thread-self/ns/net") // a thread that is elsewhere belongs to a goroutine that is
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), file.Fd())
}

// TestTheNodeAndThePodExcludeEachOther holds the lock that an agent in the pod would hold.
func TestTheNodeAndThePodExcludeEachOther(t *testing.T) {
	s := newSite(t)
	made := s.mustAdd(s.network("1.1.0", mains["ptp"]), s.pod)
	before := s.view(s.pod)
	file, err := os.Open(s.pod.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	_, err = s.podnic(call{command: "ADD", list: s.network("1.1.0", podnic(nil)), prev: made})
	s.fails(err, types.ErrTryAgainLater, "another podnic")
	s.same(before, s.pod)
}

// TestUnknownKeysAreLogged has one letter wrong.
func TestUnknownKeysAreLogged(t *testing.T) {
	s := newSite(t)
	s.mustPodnic(call{command: "STATUS", list: s.network("1.1.0", podnic(object{"onwer": 107}))})
	if log := s.logged(); !strings.Contains(log, "onwer") || strings.Contains(log, "owner") {
		t.Errorf("the log: %s", log)
	}
}
