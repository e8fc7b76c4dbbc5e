package kubevirt

import (
	"fmt"
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
      {"name": "default", "binding": {"name": "podnic"}, "macAddress": "02:00:00:00:00:01", "pciAddress": "0000:81:01.0",
       "acpiIndex": 7, "bootOrder": 2, "state": "down", "dhcpOptions": {"bootFileName": "a", "tftpServerName": "b",
       "ntpServers": ["10.0.0.1"], "privateOptions": [{"option": 240, "value": "c"}]}},
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
			{
				Name: "default", MAC: "02:00:00:00:00:01", PodNames: []string{"ovn-udn1", "eth0"},
				Placement: Placement{PCIAddress: "0000:81:01.0", ACPIIndex: 7, BootOrder: 2, LinkDown: true},
				DHCP:      &DHCPOptions{BootFile: "a", TFTPServer: "b", NTPServers: []string{"10.0.0.1"}, PrivateOptions: []PrivateOption{{240, "c"}}},
			},
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

// TestPluginThatIsNotTold is one that the VMI tells: its only one, or the one of our manifests.
func TestPluginThatIsNotTold(t *testing.T) {
	for _, test := range []struct{ names, want string }{
		{"mine", "mine"}, {"mine mine", "mine"}, {"other podnic", "podnic"}, {"mine other", "plugins (mine or other) is podnic's"},
	} {
		var interfaces, networks []string
		for n, name := range strings.Fields(test.names) {
			interfaces = append(interfaces, fmt.Sprintf(`{"name": "%d", "binding": {"name": %q}}`, n, name))
			networks = append(networks, fmt.Sprintf(`{"name": "%d", "multus": {}}`, n))
		}
		vmi, err := ParseVMI([]byte(fmt.Sprintf(`{"spec": {"domain": {"devices": {"interfaces": [%s]}}, "networks": [%s]}}`,
			strings.Join(interfaces, ","), strings.Join(networks, ","))))
		if err != nil {
			t.Fatal(err)
		}
		bound, err := vmi.Bound("")
		if err != nil {
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: %v", test.names, err)
			}
			continue
		}
		if want := strings.Count(test.names, test.want); len(bound) != want {
			t.Errorf("%s: %d interfaces are %s's, want %d", test.names, len(bound), test.want, want)
		}
	}
}

// TestTransitionalVirtioIsTheVMIsChoice for a card that is virtio, where there is such a device.
func TestTransitionalVirtioIsTheVMIsChoice(t *testing.T) {
	const form = `{"spec": {"architecture": %q, "domain": {"devices": {"useVirtioTransitional": %t, "interfaces": [{"name": "a", "model": %q, "binding": {"name": "podnic"}}]}},
		"networks": [{"name": "a", "pod": {}}]}}`
	for _, test := range []struct {
		architecture string
		transitional bool
		model, want  string
	}{
		{"amd64", true, "", "virtio-transitional"}, {"amd64", true, "virtio", "virtio-transitional"}, {"amd64", true, "e1000", "e1000"},
		{"amd64", false, "", ""}, {"s390x", true, "virtio", "virtio"},
	} {
		vmi, err := ParseVMI([]byte(fmt.Sprintf(form, test.architecture, test.transitional, test.model)))
		if err != nil {
			t.Fatal(err)
		}
		if bound, err := vmi.Bound("podnic"); err != nil || bound[0].Model != test.want {
			t.Errorf("%+v: %+v, %v", test, bound, err)
		}
	}
}

// TestMigrationTargetIsKnownByTheStatus of a VMI, while the migration goes on.
func TestMigrationTargetIsKnownByTheStatus(t *testing.T) {
	for status, want := range map[string]string{
		`{}`: "", `{"migrationState": null}`: "", `{"migrationState": {"targetPod": "b", "sourceNode": "n"}}`: "b",
		`{"migrationState": {"targetPod": "b", "completed": true}}`: "", `{"migrationState": {"targetPod": "b", "failed": true}}`: "",
		`{"migrationState": {"targetPod": "b", "endTimestamp": "2026-08-22T10:34:54Z"}}`: "",
		`{"migrationState": {"targetPod": "b", "endTimestamp": null}}`:                   "b",
	} {
		vmi, err := ParseVMI([]byte(`{"status": ` + status + `}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := vmi.MigrationTarget(); got != want {
			t.Errorf("%s: the target is %q, want %q", status, got, want)
		}
	}
}

// TestSubdomainLeadsTheSearchDomains as in KubeVirt's own server.
func TestSubdomainLeadsTheSearchDomains(t *testing.T) {
	pod := []string{"default.svc.cluster.local", "svc.cluster.local", "a.very.long.domain.example"}
	for _, test := range []struct {
		search    []string
		subdomain string
		want      string // the first, where one is added
	}{
		{pod, "", ""}, {pod, "blue", "blue.default.svc.cluster.local"}, {[]string{"example"}, "blue", ""}, {nil, "blue", ""},
		{[]string{"blue.default.svc.cluster.local"}, "blue", ""},
	} {
		want := test.search
		if test.want != "" {
			want = append([]string{test.want}, want...)
		}
		if diff := cmp.Diff(want, SearchWithSubdomain(test.search, test.subdomain)); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", test, diff)
		}
	}
}
