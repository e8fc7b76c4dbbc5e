package domainxml

import (
	"strings"
	"testing"
)

// TestInterfaceIsKnownByItsAlias fills domains whose interfaces were named by whoever wrote them.
func TestInterfaceIsKnownByItsAlias(t *testing.T) {
	nic := podNIC
	nic.Alias, nic.Model, nic.MTU = "ua-blue", "e1000", 0
	const (
		other  = `<interface type='user'><alias name='ua-green'/></interface>`
		target = `<target dev='tap0' managed='no'/>`
		mac    = `<mac address='0a:58:0a:f4:01:05'/>`
		virtio = `<model type='virtio-non-transitional'/>`
	)
	for name, test := range map[string]struct{ devices, want string }{
		"it goes before the tap's": {
			`<interface type='ethernet'>` + target + `</interface><interface type='ethernet'><alias name='ua-blue'/>` + virtio + `</interface>`,
			`<interface type='ethernet'>` + target + `</interface><interface type='ethernet'><alias name='ua-blue'/>` + virtio + mac + target + `</interface>`,
		},
		"else the tap's": {
			other + `<interface type='ethernet'>` + target + virtio + `</interface>`,
			other + `<interface type='ethernet'>` + target + virtio + mac + `</interface>`,
		},
		"another's is left alone, also where it is the only one": {
			other, other + `<interface type='ethernet'>` + mac + target + `<model type='e1000'/><alias name='ua-blue'/></interface>`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			document := func(devices string) string {
				return `<domain><name>vm</name><devices>` + devices + `</devices></domain>`
			}
			got := fill(t, document(test.devices), nic)
			if want := rewritten(t, document(test.want)); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if again := fill(t, got, nic); again != got {
				t.Errorf("filled again it is\n%s", again)
			}
		})
	}
	twice := `<domain><name>vm</name><devices>` + strings.Repeat(`<interface type='ethernet'><alias name='ua-blue'/></interface>`, 2) + `</devices></domain>`
	if _, err := parsed(t, []byte(twice)).Fill(nic); err == nil || !strings.Contains(err.Error(), "2 interfaces have <alias name='ua-blue'/>") {
		t.Errorf("of two with the alias: %v", err)
	}
}
