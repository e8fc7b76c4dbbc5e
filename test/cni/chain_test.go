package cni

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/podnic/podnic/test/podtest"
)

// TestMainPluginFindsWhatItMade walks one attachment step by step, behind each main plugin.
func TestMainPluginFindsWhatItMade(t *testing.T) {
	for name, main := range mains {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			mainOnly, both := s.network("1.1.0", main), s.network("1.1.0", main, podnic(nil))
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
}

// TestMainPluginsCheckFailsWhileWired is why the configurations disable CHECK: it looks for the veth by its old name.
func TestMainPluginsCheckFailsWhileWired(t *testing.T) {
	for name, main := range mains {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			list := s.network("1.1.0", main, podnic(nil))
			list.DisableCheck = false
			s.mustAdd(list, s.pod)
			err := s.node.Do(func() error { return s.cni.CheckNetworkList(t.Context(), list, runtime(s.pod)) })
			if err == nil {
				t.Error("it does not fail: the configurations could do without disableCheck")
			}
			s.mustDel(list, runtime(s.pod))
		})
	}
}

// TestConflistOfTheManifests runs the configuration that users are shown, from beginning to end.
func TestConflistOfTheManifests(t *testing.T) {
	s := newSite(t)
	b, err := os.ReadFile(filepath.Join(manifests, "podnic.conflist"))
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
