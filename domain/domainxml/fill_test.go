package domainxml

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podnic/podnic/network/identity"
)

var update = flag.Bool("update", false, "write the golden files anew")

var podNIC = NIC{Tap: "tap0", MAC: identity.MAC{0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x05}, MTU: 1450}

// TestFillGolden fills whole documents: testdata/fill/NAME.xml becomes NAME.filled.xml.
func TestFillGolden(t *testing.T) {
	documents, err := filepath.Glob("testdata/fill/*.xml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range documents {
		if strings.HasSuffix(file, ".filled.xml") {
			continue
		}
		golden := strings.TrimSuffix(file, ".xml") + ".filled.xml"
		t.Run(filepath.Base(file), func(t *testing.T) {
			document, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := fill(t, string(document), podNIC)
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if again := fill(t, got, podNIC); again != got {
				t.Errorf("filled again it changes:\n%s", cmp.Diff(got, again))
			}
		})
	}
}

// TestAddedCardIsPlaced puts an added card where it is wanted, once; one that is there stays where it is.
func TestAddedCardIsPlaced(t *testing.T) {
	nic := podNIC
	nic.Alias = "ua-a"
	nic.Placement = Placement{PCIAddress: "0000:81:01.7", ACPIIndex: 7, BootOrder: 2, LinkDown: true}
	fill := func(xml string) string {
		t.Helper()
		d, err := Parse([]byte(xml))
		if err != nil {
			t.Fatal(err)
		}
		out, err := d.Fill(nic)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	added := fill("<domain><name>vm</name><devices/></domain>")
	const want = `<link state="down"/><boot order="2"/><acpi index="7"/><address type="pci" domain="0x0000" bus="0x81" slot="0x01" function="0x7"/>`
	if !strings.Contains(added, want) {
		t.Errorf("added as %s", added)
	}
	if again := fill(added); again != added {
		t.Errorf("filled again it is %s", again)
	}
	there := strings.Replace(added, want, "", 1)
	if again := fill(there); again != there {
		t.Errorf("one that is there became %s", again)
	}
	for _, wrong := range []Placement{{PCIAddress: "81:01.0"}, {PCIAddress: "0000:81:01.8"}, {ACPIIndex: -1}, {BootOrder: -1}} {
		d, err := Parse([]byte(there))
		if err != nil {
			t.Fatal(err)
		}
		nic.Placement = wrong
		if out, err := d.Fill(nic); err == nil {
			t.Errorf("%+v was taken: %s", wrong, out)
		}
	}
}

// TestFillInterface fills one interface, written in one line, so that the table shows what goes, stays and comes.
func TestFillInterface(t *testing.T) {
	const (
		mac    = `<mac address='0a:58:0a:f4:01:05'/>`
		target = `<target dev='tap0' managed='no'/>`
		model  = `<model type='virtio'/>`
		mtu    = `<mtu size='1450'/>`
		all    = mac + target + model + mtu
	)
	queues := func(n int) NIC { nic := podNIC; nic.Queues = n; return nic }
	noMTU := podNIC
	noMTU.MTU = 0

	for name, test := range map[string]struct {
		nic      NIC
		in, want string
	}{
		"no children":       {podNIC, `<interface type='user'/>`, `<interface type='ethernet'>` + all + `</interface>`},
		"an empty element":  {podNIC, `<interface type="user"></interface>`, `<interface type="ethernet">` + all + `</interface>`},
		"no type":           {podNIC, `<interface/>`, `<interface type='ethernet'>` + all + `</interface>`},
		"blanks in the tag": {podNIC, "<interface\n type = \"user\" />", "<interface\n type = \"ethernet\">" + all + `</interface>`},
		"filled already":    {podNIC, `<interface type='ethernet'>` + all + `</interface>`, `<interface type='ethernet'>` + all + `</interface>`},
		"spelt otherwise": {podNIC,
			`<interface type='&#101;thernet'><mac address="0A:58:0A:F4:01:05"></mac><target managed='no' dev='tap&#48;'/>` + model + mtu + `</interface>`,
			`<interface type='&#101;thernet'><mac address="0A:58:0A:F4:01:05"></mac><target managed='no' dev='tap&#48;'/>` + model + mtu + `</interface>`},
		"attributes of no concern": {podNIC,
			`<interface type='bridge' trustGuestRxFilters='yes'><mac address="52:54:00:00:00:01" type='static'/><target dev="vnet3" x:y='1'/>` + model + mtu + `</interface>`,
			`<interface type='ethernet' trustGuestRxFilters='yes'><mac address="0a:58:0a:f4:01:05" type='static'/><target dev="tap0" x:y='1' managed='no'/>` + model + mtu + `</interface>`},
		"managed tap": {podNIC,
			`<interface type='ethernet'>` + mac + `<target managed='yes' dev='tap0'/>` + model + mtu + `</interface>`,
			`<interface type='ethernet'>` + mac + `<target managed='no' dev='tap0'/>` + model + mtu + `</interface>`},
		"elements without attributes": {podNIC,
			`<interface><mac/><target/><model/><mtu/></interface>`,
			`<interface type='ethernet'>` + all + `</interface>`},
		"the guest's device stays": {podNIC,
			`<interface type='network'><!-- a --><boot order='1'/><x:unknown>t</x:unknown><unknown/><alias name='ua-0'/><link state='down'/><address type='pci'/><rom bar='off'/><filterref filter='clean-traffic'/><tune><sndbuf>0</sndbuf></tune>` + all + `</interface>`,
			`<interface type='ethernet'><!-- a --><boot order='1'/><x:unknown>t</x:unknown><unknown/><alias name='ua-0'/><link state='down'/><address type='pci'/><rom bar='off'/><filterref filter='clean-traffic'/><tune><sndbuf>0</sndbuf></tune>` + all + `</interface>`},
		"another model stays": {podNIC,
			`<interface type='user'><model type='e1000'/></interface>`,
			`<interface type='ethernet'><model type='e1000'/>` + mac + target + mtu + `</interface>`},

		"source": {podNIC,
			`<interface type='network'><source network='default' portgroup='p'/>` + all + `</interface>`,
			`<interface type='ethernet'>` + all + `</interface>`},
		"source with children": {podNIC,
			`<interface type='hostdev' managed='yes'><source><address type='pci'/></source>` + all + `</interface>`,
			`<interface type='ethernet'>` + all + `</interface>`},
		"source and script of the unmanaged tap stay": {podNIC,
			`<interface type='ethernet'><source><ip family='ipv4' address='203.0.113.1'/></source><script path='/x'/>` + all + `</interface>`,
			`<interface type='ethernet'><source><ip family='ipv4' address='203.0.113.1'/></source><script path='/x'/>` + all + `</interface>`},
		"scripts of another tap": {podNIC,
			`<interface type='ethernet'><script path='/etc/qemu-ifup'/><downscript path='/x'/>` + mac + `<target dev='tap7' managed='no'/>` + model + mtu + `</interface>`,
			`<interface type='ethernet'>` + all + `</interface>`},
		"ports of switches": {podNIC,
			`<interface type='bridge'><virtualport type='openvswitch'><parameters interfaceid='x'/></virtualport><vlan><tag id='4'/></vlan><port isolated='yes'/><coalesce><rx/></coalesce>` + all + `</interface>`,
			`<interface type='ethernet'>` + all + `</interface>`},
		"user-mode networking": {podNIC,
			`<interface type='user'><backend type='passt' logFile='/x'/><ip address='203.0.113.2'/><route address='0.0.0.0'/><portForward proto='tcp'/><portForward proto='udp'/>` + all + `</interface>`,
			`<interface type='ethernet'>` + all + `</interface>`},
		"backend of a tap stays": {podNIC,
			`<interface type='bridge'><backend tap='/dev/net/tun' vhost='/dev/vhost-net'/>` + all + `</interface>`,
			`<interface type='ethernet'><backend tap='/dev/net/tun' vhost='/dev/vhost-net'/>` + all + `</interface>`},
		"transient device": {podNIC,
			`<interface type='hostdev' managed='yes'><teaming type='transient' persistent='ua-0'/>` + all + `</interface>`,
			`<interface type='ethernet'>` + all + `</interface>`},
		"persistent device": {podNIC,
			`<interface type='network'><teaming type='persistent'/>` + all + `</interface>`,
			`<interface type='ethernet'><teaming type='persistent'/>` + all + `</interface>`},
		"guaranteed bandwidth": {podNIC,
			`<interface type='network'><bandwidth><inbound average='1000' floor='200' burst='5'/><outbound average='128'/></bandwidth>` + all + `</interface>`,
			`<interface type='ethernet'><bandwidth><inbound average='1000' burst='5'/><outbound average='128'/></bandwidth>` + all + `</interface>`},
		"only guaranteed bandwidth": {podNIC,
			`<interface type='network'><bandwidth><inbound floor='200'/><outbound average='128'/></bandwidth>` + all + `</interface>`,
			`<interface type='ethernet'><bandwidth><outbound average='128'/></bandwidth>` + all + `</interface>`},

		"MTU unknown": {noMTU,
			`<interface type='user'><mtu size='1400'/></interface>`,
			`<interface type='ethernet'><mtu size='1400'/>` + mac + target + model + `</interface>`},
		"MTU changes": {podNIC,
			`<interface type='ethernet'>` + mac + target + model + `<mtu size="9000"/></interface>`,
			`<interface type='ethernet'>` + mac + target + model + `<mtu size="1450"/></interface>`},

		"queues come": {queues(4), `<interface type='user'/>`,
			`<interface type='ethernet'>` + mac + target + model + `<driver queues='4'/>` + mtu + `</interface>`},
		"queues change": {queues(2),
			`<interface type='ethernet'><driver name='vhost' queues='8'/>` + all + `</interface>`,
			`<interface type='ethernet'><driver name='vhost' queues='2'/>` + all + `</interface>`},
		"queues go": {queues(1),
			`<interface type='ethernet'><driver name='vhost' queues='8' iommu='on'/>` + all + `</interface>`,
			`<interface type='ethernet'><driver name='vhost' iommu='on'/>` + all + `</interface>`},
		"queues go with the element": {queues(0),
			`<interface type='ethernet'><driver queues='8'> </driver>` + all + `</interface>`,
			`<interface type='ethernet'>` + all + `</interface>`},
		"queues go without the children": {queues(0),
			`<interface type='ethernet'><driver queues='8'><host csum='off'/></driver>` + all + `</interface>`,
			`<interface type='ethernet'><driver><host csum='off'/></driver>` + all + `</interface>`},
		"a driver that passes a device through": {podNIC,
			`<interface type='hostdev'><driver name='vfio' model='mlx5_vfio_pci' queues='2'/>` + all + `</interface>`,
			`<interface type='ethernet'>` + all + `</interface>`},
		"a driver that passes a device through, with queues": {queues(2),
			`<interface type='hostdev'><driver name='vfio'/>` + all + `</interface>`,
			`<interface type='ethernet'><driver queues='2'/>` + all + `</interface>`},
	} {
		t.Run(name, func(t *testing.T) {
			const head, tail = `<domain xmlns:x='urn:x'><name>vm</name><devices>`, `</devices></domain>`
			got := fill(t, head+test.in+tail, test.nic)
			if want := rewritten(t, head+test.want+tail); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if again := fill(t, got, test.nic); again != got {
				t.Errorf("filled again it changes:\n%s\n%s", got, again)
			}
		})
	}
}

func TestFillChoosesTheInterface(t *testing.T) {
	const head, tail = `<domain><name>vm</name><devices>`, `</devices></domain>`
	for name, test := range map[string]struct {
		nic  NIC
		in   string
		want string // of the error; without one, of the interface that was filled
	}{
		"the marked one": {podNIC,
			`<interface type='user'/><interface type='bridge'><alias name='this'/><target dev='tap0'/></interface>`, `this`},
		"the only one, whatever its tap is": {podNIC,
			`<interface type='bridge'><alias name='this'/><target dev='vnet0'/></interface>`, `this`},
		"none is marked": {podNIC, `<interface type='user'/><interface type='user'><target dev='tap1'/></interface>`,
			`domain "vm": 2 interfaces, and none is marked as the pod's: put <target dev='tap0' managed='no'/> into the one that is` +
				` (the pod gives tap0 (tap0, 0a:58:0a:f4:01:05); the domain has 1: type user, 2: type user tap tap1)`},
		"two are marked": {podNIC, strings.Repeat(`<interface><target dev='tap0'/></interface>`, 2),
			`domain "vm": 2 interfaces have <target dev='tap0'/>: leave it on one`},
		"queues that the model cannot have": {NIC{Tap: "tap0", MAC: podNIC.MAC, Queues: 2},
			`<interface type='user'><model type='e1000'/></interface>`,
			`domain "vm": the tap tap0 has 2 queues, an interface of model e1000 can use one: ask for one queue or use model virtio`},
		"no MAC": {NIC{Tap: "tap0"}, ``, `domain "vm": an interface needs a tap and a MAC address, have "tap0" and "00:00:00:00:00:00"`},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := Parse([]byte(head + test.in + tail))
			if err != nil {
				t.Fatal(err)
			}
			filled, err := d.Fill(test.nic)
			if strings.HasPrefix(test.want, "domain") {
				if err == nil || err.Error() != test.want {
					t.Fatalf("got %v\nwant %s", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range parsed(t, filled).interfaces() {
				if newInterface(i).MAC == podNIC.MAC && value(child(i, "alias"), "name") != test.want {
					t.Errorf("filled another interface:\n%s", filled)
				}
			}
		})
	}
}

func TestQueuesAreThoseOfTheInterfaceToFill(t *testing.T) {
	for name, test := range map[string]struct {
		devices string
		want    int
		err     bool
	}{
		"none":           {``, 0, false},
		"says nothing":   {`<interface/>`, 0, false},
		"says four":      {`<interface><driver queues='4'/></interface>`, 4, false},
		"marked":         {`<interface><driver queues='4'/></interface><interface><target dev='tap0'/><driver queues='2'/></interface>`, 2, false},
		"not for e1000":  {`<interface><model type='e1000'/><driver queues='4'/></interface>`, 0, false},
		"cannot be told": {`<interface/><interface/>`, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parsed(t, []byte(`<domain><name>vm</name><devices>`+test.devices+`</devices></domain>`)).Queues(podNIC)
			if got != test.want || (err != nil) != test.err {
				t.Errorf("got %d, %v, want %d", got, err, test.want)
			}
		})
	}
}

// rewritten is a document as Fill writes it.
func rewritten(t testing.TB, xml string) string {
	t.Helper()
	return string(write(parsed(t, []byte(xml)).tree.Copy()))
}

func parsed(t testing.TB, xml []byte) *Document {
	t.Helper()
	d, err := Parse(xml)
	if err != nil {
		t.Fatalf("%v in\n%s", err, xml)
	}
	return d
}

func fill(t testing.TB, xml string, nic NIC) string {
	t.Helper()
	before := bytes.Clone([]byte(xml))
	input := bytes.Clone(before)
	filled, err := parsed(t, input).Fill(nic)
	if err != nil {
		t.Fatalf("%v in\n%s", err, xml)
	}
	if !bytes.Equal(input, before) {
		t.Fatal("the input was changed")
	}
	return string(filled)
}
