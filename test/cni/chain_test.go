package cni

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/podnic/podnic/test/podtest"
)

// TestMainPluginFindsWhatItMade walks one attachment step by step, behind each main plugin.
func TestMainPluginFindsWhatItMade(t *testing.T) {
	forEachBinding(t, func(s *site, main object, binding string) {
		t := s.t
		mainOnly, both := s.network("1.1.0", main), s.network("1.1.0", main, podnic(object{"binding": binding}))
		made := s.mustAdd(mainOnly, s.pod)
		before := s.view(s.pod)

		result := s.mustPodnic(call{command: "ADD", list: both, prev: made})
		if phase, text := s.status(s.pod); phase != "wired" {
			t.Errorf("status: %s", text)
		}
		want, got := s.current(made), s.current(result)
		last := got.Interfaces[len(got.Interfaces)-1]
		if last.Name != "tap0" || last.Sandbox != s.pod.Path || last.Mac == "" || last.Mtu != 1500 {
			t.Errorf("the last interface of the result is %v", last)
		}
		want.Interfaces = append(want.Interfaces, last)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the result before is not passed on:\n%s", diff)
		}

		wired := s.wired(s.pod)
		byTC := strings.HasSuffix(t.Name(), "by_tc")
		if qdiscs := podtest.In(t, s.pod, "tc qdisc show"); strings.Contains(qdiscs, "qdisc clsact") != byTC {
			t.Errorf("by tc: %v, and there are:\n%s", byTC, qdiscs)
		}
		again := s.mustPodnic(call{command: "ADD", list: both, prev: made})
		if diff := cmp.Diff(s.current(result), s.current(again)); diff != "" {
			t.Errorf("the second ADD has another result:\n%s", diff)
		}
		if diff := cmp.Diff(wired, s.wired(s.pod)); diff != "" {
			t.Errorf("the second ADD changed:\n%s", diff)
		}
		s.mustPodnic(call{command: "CHECK", list: both, prev: result})

		s.mustPodnic(call{command: "DEL", list: both, prev: result})
		s.same(before, s.pod)
		s.mustPodnic(call{command: "DEL", list: both, prev: result})
		s.same(before, s.pod)
		s.mustDel(mainOnly, runtime(s.pod))
		s.nothingKept()
	})
}

// forEachBinding runs a test with each main plugin and each binding.
func forEachBinding(t *testing.T, test func(s *site, main object, binding string)) {
	for name, main := range mains {
		for _, binding := range []string{"bridge", "redirect", "shared", podtest.ByTC} {
			t.Run(name+"/"+binding, func(t *testing.T) {
				kind, _, byTC := strings.Cut(binding, " by ")
				s := newSite(t)
				if byTC {
					s.hideForward()
				}
				test(s, main, kind)
			})
		}
	}
}

// TestMainPluginsCheckFailsBehindABridge is why configurations with the bridge disable CHECK: it looks for the veth by its
// old name. Those that leave the link alone need not, nor have macvlans.
func TestMainPluginsCheckFailsBehindABridge(t *testing.T) {
	check := func(s *site, main object, binding string) {
		t := s.t
		list := s.network("1.1.0", main, podnic(object{"binding": binding}))
		list.DisableCheck = false
		s.mustAdd(list, s.pod)
		err := s.node.Do(func() error { return s.cni.CheckNetworkList(t.Context(), list, runtime(s.pod)) })
		switch {
		case binding == "bridge" && err == nil:
			t.Error("it does not fail: the configurations could do without disableCheck")
		case binding != "bridge" && err != nil:
			t.Error(err)
		}
		s.mustDel(list, runtime(s.pod))
	}
	forEachBinding(t, check)
	t.Run("macvlan/redirect", func(t *testing.T) {
		s := newSite(t)
		podtest.In(t, s.node.Namespace, "ip link add uplink type veth peer name wire && ip link set uplink up && ip link set wire up")
		check(s, object{"type": "macvlan", "master": "uplink"}, "redirect")
	})
}

// TestConflistsOfTheManifests runs the configurations that users are shown, from beginning to end. Where CHECK is not
// disabled, libcni has the main plugin do it too.
func TestConflistsOfTheManifests(t *testing.T) {
	for name := range conflists {
		t.Run(name, func(t *testing.T) { fromBeginningToEnd(t, name) })
	}
}

func fromBeginningToEnd(t *testing.T, network string) {
	s := newSite(t)
	b, err := os.ReadFile(filepath.Join(manifests, network+".conflist"))
	if err != nil {
		t.Fatal(err)
	}
	list := s.parse(b)
	node, empty := podtest.State(t, s.node.Namespace), s.view(s.pod)
	s.mustAdd(list, s.pod)
	if phase, text := s.status(s.pod); phase != "wired" {
		t.Errorf("status: %s", text)
	}
	err = s.node.Do(func() error { return s.cni.CheckNetworkList(t.Context(), list, runtime(s.pod)) })
	if err != nil {
		t.Errorf("CHECK: %v", err)
	}
	err = s.node.Do(func() error { return s.cni.GetStatusNetworkList(t.Context(), list) })
	if err != nil {
		t.Errorf("STATUS: %v", err)
	}
	for range 2 {
		s.mustDel(list, runtime(s.pod))
		s.same(empty, s.pod)
		s.nothingKept()
	}
	if diff := node.Diff(podtest.State(t, s.node.Namespace)); diff != "" {
		t.Errorf("the node is not as before:\n%s", diff)
	}
}

// TestResultIsOfTheVersionAskedFor compares the whole result for each version that knows chains.
func TestResultIsOfTheVersionAskedFor(t *testing.T) {
	s := newSite(t)
	for i, version := range []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		n := s.addPod(fmt.Sprint("version", i))
		list := s.network(version, mains["ptp"], podnic(nil))
		got := jsonOf(t, s.mustAdd(list, n))
		if got["cniVersion"] != version {
			t.Errorf("asked for %s: the result is of %s", version, got["cniVersion"])
		}
		interfaces := got["interfaces"].([]any)
		tap := interfaces[len(interfaces)-1].(object)
		want := object{"name": "tap0", "sandbox": n.Path, "mac": tap["mac"]}
		if version == "1.1.0" || version == "1.0.0" {
			want["mtu"] = float64(1500)
		}
		if diff := cmp.Diff(want, tap); diff != "" || len(interfaces) != 3 {
			t.Errorf("%s: %d interfaces, and the tap is not as it should be:\n%s", version, len(interfaces), diff)
		}
		ip := got["ips"].([]any)[0].(object)
		old := version < "1"
		if ip["interface"] != float64(1) || (ip["version"] == "4") != old {
			t.Errorf("%s: the address is %v", version, ip)
		}
		s.mustDel(list, runtime(n))
	}
	s.nothingKept()
	for _, version := range []string{"0.2.0", "2.0.0"} {
		_, err := s.podnic(call{command: "ADD", list: s.network(version, podnic(nil))})
		s.fails(err, types.ErrIncompatibleCNIVersion)
	}
}

func jsonOf(t *testing.T, value any) object {
	t.Helper()
	b, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var o object
	if err := json.Unmarshal(b, &o); err != nil {
		t.Fatal(err)
	}
	return o
}
