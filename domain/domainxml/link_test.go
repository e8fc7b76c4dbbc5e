package domainxml

import (
	"strings"
	"testing"
)

// TestLinkIsThatOfTheTapsInterface takes a domain of two interfaces, and what is beside the link in the one that is meant.
func TestLinkIsThatOfTheTapsInterface(t *testing.T) {
	d, err := Parse([]byte(`<domain><name>vm</name><devices>
<interface type='ethernet'><target dev='tap0' managed='no'/><link state='down'/></interface>
<interface type='ethernet'><mac address='0a:58:0a:f4:01:05'/><target dev='tap1' managed='no'/><alias name='net1'/></interface>
</devices></domain>`))
	if err != nil {
		t.Fatal(err)
	}
	if !d.LinkDown("tap0") || d.LinkDown("tap1") || d.LinkDown("tap2") {
		t.Errorf("down: tap0 %v, tap1 %v, tap2 %v", d.LinkDown("tap0"), d.LinkDown("tap1"), d.LinkDown("tap2"))
	}
	xml, err := d.WithLink("tap1", false)
	for _, want := range []string{`<mac address="0a:58:0a:f4:01:05"/>`, `<alias name="net1"/>`, `<link state="down"/>`} {
		if err != nil || !strings.Contains(string(xml), want) || strings.Contains(string(xml), "tap0") {
			t.Errorf("%v: %s has not %s alone", err, xml, want)
		}
	}
	if xml, err := d.WithLink("tap2", false); err == nil {
		t.Errorf("a tap that it does not have: %s", xml)
	}
}
