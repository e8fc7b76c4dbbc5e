package rtnl

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/go-cmp/cmp"
	"github.com/podnic/podnic/network/plan"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// tcPod is a namespace with the links eth0 and tap0, and a socket of rtnetlink in it.
type tcPod struct {
	*testing.T
	in    ns.NetNS
	conn  *Conn
	roles map[int]plan.Role
	index map[plan.Role]int
}

func newTCPod(t *testing.T) *tcPod {
	if os.Getuid() != 0 || os.Getenv("PODNIC_UNIT") != "" {
		t.Skip("makes network namespaces, and so needs root and more than unit tests wanted")
	}
	in, err := ns.TempNetNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	p := &tcPod{T: t, in: in}
	p.run("ip", "link add eth0 type veth peer name host0")
	p.run("ip", "tuntap add tap0 mode tap")
	for _, name := range []string{"eth0", "host0", "tap0"} {
		p.run("ip", "link set "+name+" up")
	}
	p.open()
	p.find()
	return p
}

func (p *tcPod) open() {
	p.Helper()
	if err := p.in.Do(func(ns.NetNS) (err error) {
		p.conn, err = OpenHere(unix.NETLINK_ROUTE)
		return err
	}); err != nil {
		p.Fatal(err)
	}
	p.Cleanup(p.conn.Close)
}

func (p *tcPod) find() {
	p.Helper()
	p.roles, p.index = make(map[int]plan.Role), make(map[plan.Role]int)
	for role, name := range map[plan.Role]string{plan.NIC: "eth0", plan.Tap: "tap0"} {
		i, err := p.conn.IndexOf(name)
		if err != nil {
			p.Fatal(err)
		}
		p.roles[i], p.index[role] = role, i
	}
}

func (p *tcPod) run(name, args string) string {
	p.Helper()
	var out []byte
	if err := p.in.Do(func(ns.NetNS) (err error) {
		out, err = exec.Command(name, strings.Fields(args)...).CombinedOutput() // the child inherits the thread's namespace
		return err
	}); err != nil {
		p.Fatalf("%s %s: %v: %s", name, args, err, out)
	}
	return string(out)
}

func (p *tcPod) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// read is what the kernel has, in words.
func (p *tcPod) read() []string {
	p.Helper()
	qdiscs, err := p.conn.Qdiscs(p.roles)
	p.must(err)
	var text []string
	for _, q := range qdiscs {
		text = append(text, fmt.Sprintf("%s %s", q.Link, q.Kind))
		for _, f := range q.Filters {
			text = append(text, fmt.Sprintf("%s %s", q.Link, f))
		}
	}
	return text
}

func (p *tcPod) expect(want ...string) {
	p.Helper()
	if diff := cmp.Diff(want, p.read()); diff != "" {
		p.Errorf("tc is not as expected:\n%s", diff)
	}
}

func fixed(verdict uint32) []bpf.RawInstruction { return []bpf.RawInstruction{{Op: 6, K: verdict}} }

var (
	fence    = plan.TCFilter{Hook: plan.HookIngress, Priority: 1, Handle: 7, Kind: "bpf", Program: fixed(plan.FrameOnward), Direct: true}
	redirect = plan.TCFilter{Hook: plan.HookIngress, Priority: 2, Handle: 7, Kind: "bpf", Program: fixed(0xffffffff), Redirect: plan.Tap}
	mirror   = plan.TCFilter{Hook: plan.HookIngress, Priority: 3, Handle: 7, Kind: "bpf", Program: fixed(0xffffffff), Redirect: plan.Tap, Copy: true}
	closed   = plan.TCFilter{Hook: plan.HookEgress, Priority: 1, Handle: 7, Kind: "bpf", Program: fixed(plan.FrameDropped), Direct: true}
)

func TestTCIsReadAsItWasWritten(t *testing.T) {
	p := newTCPod(t)
	p.expect()
	nic := p.index[plan.NIC]
	p.must(p.conn.AddQdisc(nic))
	for _, f := range []plan.TCFilter{redirect, fence, closed, mirror} {
		p.must(p.conn.PutTCFilter(nic, f, p.index[plan.Tap]))
	}
	p.expect("nic clsact", "nic "+closed.String(), "nic "+fence.String(), "nic "+redirect.String(), "nic "+mirror.String())
	if err := p.conn.AddQdisc(nic); !errors.Is(err, unix.EEXIST) {
		t.Errorf("a second qdisc: %v", err)
	}

	other := fence
	other.Program = fixed(plan.FrameDropped)
	p.must(p.conn.PutTCFilter(nic, other, 0))
	p.expect("nic clsact", "nic "+closed.String(), "nic "+other.String(), "nic "+redirect.String(), "nic "+mirror.String())
	p.must(p.conn.DeleteTCFilter(nic, closed))
	p.must(p.conn.DeleteTCFilter(nic, closed))
	p.must(p.conn.DeleteTCFilter(nic, other))
	p.must(p.conn.DeleteTCFilter(nic, mirror))
	p.expect("nic clsact", "nic "+redirect.String())
	p.must(p.conn.DeleteQdisc(nic))
	p.must(p.conn.DeleteQdisc(nic))
	p.must(p.conn.DeleteTCFilter(nic, closed))
	p.expect()
}

// TestTCFollowsATapThatIsMadeAnew: mirred holds an index, which goes with the link.
func TestTCFollowsATapThatIsMadeAnew(t *testing.T) {
	p := newTCPod(t)
	nic := p.index[plan.NIC]
	p.must(p.conn.AddQdisc(nic))
	p.must(p.conn.PutTCFilter(nic, redirect, p.index[plan.Tap]))
	p.run("ip", "link del tap0")
	p.run("ip", "tuntap add tap0 mode tap")
	p.run("ip", "link set tap0 up")
	p.find()
	lost := redirect
	lost.Redirect = "link 0"
	p.expect("nic clsact", "nic "+lost.String())
	p.must(p.conn.PutTCFilter(nic, redirect, p.index[plan.Tap]))
	p.expect("nic clsact", "nic "+redirect.String())
}

// TestTCCounts: frames that were redirected, and those that were dropped.
func TestTCCounts(t *testing.T) {
	p := newTCPod(t)
	nic := p.index[plan.NIC]
	p.run("ip", "link del tap0")
	p.run("ip", "link add tap0 type veth peer name guest0") // a tap that nobody holds takes no frame
	p.run("ip", "link set tap0 up")
	p.run("ip", "link set guest0 up")
	p.find()
	p.must(p.conn.AddQdisc(nic))
	dropsARP := fence
	dropsARP.Program = []bpf.RawInstruction{{Op: 0x28, K: 12}, {Op: 0x15, Jf: 1, K: unix.ETH_P_ARP}, {Op: 6, K: plan.FrameDropped}, {Op: 6, K: plan.FrameOnward}}
	p.must(p.conn.PutTCFilter(nic, dropsARP, 0))
	p.must(p.conn.PutTCFilter(nic, redirect, p.index[plan.Tap]))
	p.must(p.in.Do(func(ns.NetNS) error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		host, err := p.conn.IndexOf("host0")
		if err != nil {
			return err
		}
		for i := range 5 {
			frame := make([]byte, 60)
			frame[12], frame[13] = 0x08, byte([]int{0, 6}[i%2]) // three of IPv4, two of ARP
			if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: host}); err != nil {
				return err
			}
		}
		return nil
	}))
	qdiscs, err := p.conn.Qdiscs(p.roles)
	p.must(err)
	if len(qdiscs) != 1 || len(qdiscs[0].Filters) != 2 {
		t.Fatalf("tc has %v", qdiscs)
	}
	// The links' own frames, of IPv6, are redirected too.
	if q := qdiscs[0]; q.Dropped != 2 || q.Filters[1].Frames < 3 {
		t.Errorf("%d frames were dropped and %d redirected", q.Dropped, q.Filters[1].Frames)
	}
}

// TestTCReadsALongProgramOnAFreshSocket: the kernel's first answer on a socket has no room for it.
func TestTCReadsALongProgramOnAFreshSocket(t *testing.T) {
	p := newTCPod(t)
	nic := p.index[plan.NIC]
	long := fence
	for len(long.Program) < plan.MaxProgram-1 {
		long.Program = append(long.Program, bpf.RawInstruction{Op: 0x28, K: 12})
	}
	long.Program = append(long.Program[:len(long.Program):len(long.Program)], fixed(plan.FrameOnward)...)
	p.must(p.conn.AddQdisc(nic))
	p.must(p.conn.PutTCFilter(nic, long, 0))
	p.open()
	p.expect("nic clsact", "nic "+long.String())
}

// TestTCTellsWhatIsAnothers: by its kind, its action, its place.
func TestTCTellsWhatIsAnothers(t *testing.T) {
	p := newTCPod(t)
	p.run("tc", "qdisc add dev eth0 clsact")
	p.run("tc", "qdisc add dev tap0 ingress")
	p.run("tc", "filter add dev eth0 ingress protocol ip pref 9 u32 match u32 0 0 action mirred egress mirror dev tap0")
	qdiscs, err := p.conn.Qdiscs(p.roles)
	p.must(err)
	for _, q := range qdiscs {
		if q.Ours() {
			t.Errorf("%s of %s is taken for ours", q.Kind, q.Link)
		}
	}
	p.expect("nic clsact",
		"nic ingress pref 9 u32 handle 0x80000000 protocol 0x800", "nic ingress pref 9 u32 handle 0x80000800 protocol 0x800",
		"tap ingress")
}
