package cni

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/podnic/podnic/test/podtest"
)

// TestEachAttachmentIsItsOwn has a pod with eth0 of the ptp plugin and net1 of the bridge plugin, each given away by an attachment.
// Whichever is added first: each has a tap of its own, and a DEL, or a second one, takes back its own alone.
func TestEachAttachmentIsItsOwn(t *testing.T) {
	for _, socket := range []string{"packet", "udp"} {
		for _, reverse := range []bool{false, true} {
			name := socket
			if reverse {
				name += ", net1 first"
			}
			t.Run(name, func(t *testing.T) {
				s := newSite(t)
				type attachment struct {
					iface string
					list  *libcni.NetworkConfigList
					rt    *libcni.RuntimeConf
				}
				all := []attachment{
					{"eth0", s.network("1.0.0", mains["ptp"], podnic(object{"socket": socket})), runtime(s.pod)},
					{"net1", s.network("1.0.0", object{"type": "bridge", "bridge": "cni1", "isGateway": true, "ipam": object{
						"type": "host-local", "ranges": []any{[]any{object{"subnet": "10.245.1.0/24"}}}, "routes": []any{object{"dst": "10.99.0.0/16"}},
					}}, podnic(object{"socket": socket})), runtime(s.pod)},
				}
				all[1].rt.IfName = "net1"
				if reverse {
					slices.Reverse(all)
				}
				before := podtest.State(t, s.pod)
				wired := func() string {
					return strings.Join(strings.Fields(podtest.In(t, s.pod, "ip -o link show type bridge | sed -n 's/.*: \\(.*\\)-br:.*/\\1/p' | sort")), " ")
				}
				for i, a := range all {
					err := s.node.Do(func() error {
						result, err := s.cni.AddNetworkList(context.Background(), a.list, a.rt)
						if err != nil {
							return err
						}
						r, err := types100.NewResultFromResult(result)
						if err == nil && r.Interfaces[len(r.Interfaces)-1].Name != []string{"tap0", "tap1"}[i] {
							t.Errorf("the tap of %s is %s", a.iface, r.Interfaces[len(r.Interfaces)-1].Name)
						}
						return err
					})
					if err != nil {
						t.Fatalf("ADD of %s: %v", a.iface, err)
					}
				}
				if got := wired(); got != "eth0 net1" {
					t.Errorf("wired: %q", got)
				}
				for _, a := range all {
					if _, err := s.podnic(call{command: "CHECK", list: a.list, rt: a.rt}); err != nil {
						t.Errorf("CHECK of %s: %v", a.iface, err)
					}
				}
				s.mustDel(all[0].list, all[0].rt)
				if got := wired(); got != all[1].iface {
					t.Errorf("after DEL of %s, wired: %q", all[0].iface, got)
				}
				s.mustPodnic(call{command: "DEL", list: all[0].list, rt: all[0].rt})
				if _, err := s.podnic(call{command: "CHECK", list: all[1].list, rt: all[1].rt}); err != nil {
					t.Errorf("CHECK of %s after another's DEL: %v", all[1].iface, err)
				}
				s.mustDel(all[1].list, all[1].rt)
				if diff := before.Diff(podtest.State(t, s.pod)); diff != "" {
					t.Errorf("the namespace is not as before:\n%s", diff)
				}
				if files := podtest.Files(t, s.state); len(files) > 0 {
					t.Errorf("left in the state directory: %q", files)
				}
			})
		}
	}
}
