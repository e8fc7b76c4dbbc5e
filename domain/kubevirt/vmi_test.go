package kubevirt

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// machine is a VMI as KubeVirt marshals it, in part.
const machine = `{
  "kind": "VirtualMachineInstance", "apiVersion": "kubevirt.io/v1",
  "metadata": {"name": "vm-0", "namespace": "default", "creationTimestamp": null},
  "spec": {
    "domain": {"devices": {"interfaces": [
      {"name": "default", "binding": {"name": "podnic"}, "macAddress": "02:00:00:00:00:01"},
      {"name": "blue", "masquerade": {}},
      {"name": "red", "binding": {"name": "other"}, "model": "e1000"},
      {"name": "green", "binding": {"name": "podnic"}, "model": "virtio"},
      {"name": "gone", "binding": {"name": "podnic"}, "state": "absent"}
    ]}, "resources": {}},
    "networks": [
      {"name": "blue", "multus": {"networkName": "blue-net"}},
      {"name": "green", "multus": {"networkName": "green-net"}},
      {"name": "red", "multus": {"networkName": "red-net", "default": true}},
      {"name": "default", "pod": {}}
    ]
  },
  "status": {"interfaces": [{"name": "default", "podInterfaceName": "ovn-udn1"}]}
}`

// TestInterfacesOfABinding finds those that are podnic's, and what they may be called in the pod. The hashes are those of
// `printf blue | sha256sum`.
func TestInterfacesOfABinding(t *testing.T) {
	vmi, err := ParseVMI([]byte(machine))
	if err != nil {
		t.Fatal(err)
	}
	for plugin, want := range map[string][]Interface{
		"podnic": {
			{Name: "default", MAC: "02:00:00:00:00:01", PodNames: []string{"ovn-udn1", "eth0"}},
			{Name: "green", Model: "virtio", PodNames: []string{"podba4788b226a", "net2"}},
		},
		"other": {{Name: "red", Model: "e1000", PodNames: []string{"eth0"}}},
	} {
		got, err := vmi.Bound(plugin)
		if err != nil {
			t.Errorf("%s: %v", plugin, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", plugin, diff)
		}
	}
	if alias := (Interface{Name: "green"}).Alias(); alias != "ua-green" {
		t.Errorf("the alias is %s", alias)
	}
}

// TestVMIThatCannotBeServedIsAnError says why, and of which machine.
func TestVMIThatCannotBeServedIsAnError(t *testing.T) {
	for name, test := range map[string]struct{ text, words string }{
		"not JSON":          {"<vmi/>", "not the JSON"},
		"empty":             {"", "not the JSON"},
		"another type":      {`{"spec": {"networks": "eth0"}}`, "not the JSON"},
		"no interfaces":     {`{"metadata": {"name": "a", "namespace": "b"}}`, "b/a: it has no interfaces"},
		"other bindings":    {strings.ReplaceAll(machine, `"podnic"`, `"else"`), "default/vm-0: no interface has the binding podnic: default has else, blue has another kind of binding"},
		"without a network": {strings.Replace(machine, `"name": "default", "pod"`, `"name": "def", "pod"`, 1), "default has no network of its name"},
	} {
		t.Run(name, func(t *testing.T) {
			vmi, err := ParseVMI([]byte(test.text))
			if err == nil {
				_, err = vmi.Bound("podnic")
			}
			if err == nil || !strings.Contains(err.Error(), test.words) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line that says %q", err, test.words)
			}
		})
	}
}
