package network

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/podnic/podnic/network/plan"
)

// TestLostInterfaceHasTheNameOfItsRecord where nothing in the namespace tells it any more, also for who inspects what another user
// has wired.
func TestLostInterfaceHasTheNameOfItsRecord(t *testing.T) {
	t.Parallel()
	p := newMultusPod(t)
	wiring := p.request()
	wiring.Interfaces = []plan.Options{{Interface: "eth0"}, {Interface: "net1", Binding: plan.BindingRedirect}}
	if _, err := PrepareAll(t.Context(), wiring); err != nil {
		t.Fatal(err)
	}
	nft := func(args ...string) string {
		out, err := p.run(p.pod, "nft", args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for table := range strings.Lines(nft("list", "tables")) {
		if fields := strings.Fields(table); strings.HasSuffix(fields[2], "net1") {
			nft("delete", "table", fields[1], fields[2])
		}
	}
	p.ip("link del net1")
	const user = 4711
	for _, owner := range []int{0, user} {
		err := filepath.Walk(p.dir, func(path string, _ os.FileInfo, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, owner, owner)
		})
		if err != nil {
			t.Fatal(err)
		}
		req := p.request()
		req.Others = []uint32{user}
		seen, lost, err := InspectEach(req)
		if err != nil || len(seen) != 1 || seen[0].Names.Interface != "eth0" || len(lost) != 1 {
			t.Fatalf("seen are %v, lost %v: %v", seen, lost, err)
		}
		if name := lost[0].Names.Interface; name != "net1" || !strings.HasPrefix(lost[0].Reason.Error(), "net1, which was wired, is gone") {
			t.Errorf("where the record is of user %d: lost is %q: %v", owner, name, lost[0].Reason)
		}
	}
	if err := os.RemoveAll(filepath.Join(p.dir, "net1")); err != nil {
		t.Fatal(err)
	}
	if _, lost, err := InspectEach(p.request()); err != nil || len(lost) != 1 || !strings.HasPrefix(lost[0].Reason.Error(), "the interface of tap1, which was wired, is gone") {
		t.Errorf("without a record: lost is %v: %v", lost, err)
	}
}

// TestOnlyWhatIsWiredIsLost: an interface that was asked for by name, is not wired and is refused fails the inspection of all.
func TestOnlyWhatIsWiredIsLost(t *testing.T) {
	eth0, net1, net2 := &discovery{}, &discovery{}, &discovery{}
	v := &discoveries{wired: []*discovery{eth0, net1}}
	refusal := plan.Refuse("no")
	inspect := func(d *discovery) (*Inspection, error) {
		if d == eth0 {
			return &Inspection{}, nil
		}
		return nil, refusal
	}
	if all, lost, err := v.inspect([]*discovery{eth0, net1}, inspect); err != nil || len(all) != 1 || len(lost) != 1 {
		t.Errorf("net1 is wired, and lost: %v, %v, %v", all, lost, err)
	}
	if all, lost, err := v.inspect([]*discovery{net1}, inspect); !IsRefusal(err) || len(all) > 0 || len(lost) != 1 {
		t.Errorf("all are lost: %v, %v, %v", all, lost, err)
	}
	if all, lost, err := v.inspect([]*discovery{eth0, net2}, inspect); !IsRefusal(err) || len(all) > 0 || len(lost) > 0 {
		t.Errorf("net2 is not wired: %v, %v, %v", all, lost, err)
	}
}
