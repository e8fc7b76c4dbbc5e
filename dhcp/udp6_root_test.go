package dhcp

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/podnic/podnic/dhcp/internal/link"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/test/podtest"
)

// TestExchangesIPv6ThroughAUDPSocket has the exchanges of TestExchangesIPv6 with a server that needs no capability, behind
// a wiring of each binding: what comes out of the tap is what the handler says. The guest's link-local address is the pod's
// own, and its router probes go to a MAC that nobody has here.
func TestExchangesIPv6ThroughAUDPSocket(t *testing.T) {
	needRoot(t)
	for _, binding := range append([]string{plan.BindingManagedTap}, plan.Automatic...) {
		t.Run(binding, func(t *testing.T) {
			t.Parallel()
			w := newWired6(t, binding)
			for _, tt := range exchanges6() {
				t.Run(tt.name, func(t *testing.T) { w.test(t, tt) })
			}
		})
	}
}

// wired6 is a pod that podnic has wired, and the guest's end of its tap.
type wired6 struct {
	pod  *netns
	link string
	tap  *os.File
}

// newWired6 has a pod whose router nobody answers for, with a permanent neighbour, so that of all that the exchanges ask for
// the filter knows.
func newWired6(t *testing.T, binding string) *wired6 {
	t.Helper()
	w := &wired6{pod: newNetns(t)}
	w.pod.ip(t,
		"link add eth0 address "+guestMAC.String()+" type veth peer name host0", "link set host0 addrgenmode none up", "link set eth0 up",
		"-6 address add 2001:db8:1::5/64 dev eth0 nodad", "-6 route add default via 2001:db8:1::1",
		"-6 neighbour add 2001:db8:1::1 lladdr "+otherMAC.String()+" dev eth0", "-6 neighbour add fe80::1 lladdr "+otherMAC.String()+" dev eth0",
	)
	names := w.wire(t, network.Request{
		Namespace: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), w.pod.file.Fd()), StateDir: t.TempDir(),
		Options: plan.Options{Interface: "eth0", Binding: binding, Socket: plan.SocketUDP, IPv6: plan.IPv6Serve},
	})
	w.link = names.Binding.ServerLink(names, plan.SocketUDP)
	w.tap = w.pod.tap(t, names.Tap)
	// The kernel notices the carrier in its own time, has no route before, and drops what is sent. A bridge may have had one
	// before, of the tap while that was made, and forwards what comes from the tap when it has noticed that one's.
	ready := func() bool {
		return strings.Contains(w.output(t, "ip", "-6", "route", "show", "table", "local", "dev", w.link), "multicast") &&
			!strings.Contains(w.output(t, "ip", "link", "show", "dev", w.link), "NO-CARRIER") &&
			!strings.Contains(w.output(t, "ip", "link", "show", "dev", names.Tap), "NO-CARRIER") &&
			(names.Bridge == "" || strings.Contains(w.output(t, "bridge", "link", "show", "dev", names.Tap), "state forwarding"))
	}
	for !ready() {
		time.Sleep(time.Millisecond)
	}
	return w
}

// wire wires it, or readies it for KubeVirt's wiring and lays that.
func (w *wired6) wire(t *testing.T, req network.Request) plan.Names {
	t.Helper()
	if req.Options.Binding != plan.BindingManagedTap {
		r, err := network.Prepare(context.Background(), req)
		if err != nil {
			t.Fatal(err)
		}
		return r.Names
	}
	req.Options.Binding = ""
	names := plan.ManagedTapNames("eth0")
	if _, err := network.Provide(context.Background(), req, &names, nil); err != nil {
		t.Fatal(err)
	}
	w.pod.ip(t, "link set eth0 down", "link set eth0 name eth0-nic", "address flush dev eth0-nic", "link add k6t-eth0 type bridge", "link set k6t-eth0 up",
		"link set eth0-nic address 02:00:00:00:00:09", "link set eth0-nic master k6t-eth0 up", "link add eth0 address "+guestMAC.String()+" type bridge",
		"tuntap add tap0 mode tap vnet_hdr", "link set tap0 addrgenmode none", // of whose own address the guest would hear
		"link set tap0 master k6t-eth0 up")
	return names
}

func (w *wired6) output(t *testing.T, command ...string) string {
	t.Helper()
	text, err := w.pod.output(command...)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (w *wired6) test(t *testing.T, tt exchange6) {
	settings := tt.options
	settings.UDP = true
	h := testHandler6(t, tt.id, settings)
	server, err := NewServer6(Config6{
		Offer: mustOffer6(t, tt.id, settings), Client: guestMAC, ServerMAC: serverMAC, Link: w.link, InNamespace: w.pod.do, Log: zaptest.NewLogger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, server)
	w.until(t, len(testHandler6(t, tt.id, settings).advertise())) // what the routers advertise at first
	var want []string
	for _, frame := range tt.frames {
		if frame[link.EtherLen+6] == link.ProtoICMPv6 && !rightSum(frame[link.EtherLen:]) {
			continue // which nobody verifies here
		}
		for _, r := range h.packet(link.Packet{Data: frame, Sum: link.ChecksumFinished}) {
			want = append(want, w.render(r.Message))
		}
		w.write(t, frame)
	}
	got := w.until(t, len(want))
	slices.Sort(got) // what waits for the stack to know a MAC comes later
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, ""), strings.Join(want, ""))
	}
	for reason, n := range server.Stats().Dropped {
		t.Logf("%d dropped: %s", n, reason)
	}
}

func (w *wired6) write(t *testing.T, frame []byte) {
	t.Helper()
	if _, err := w.tap.Write(frame); err != nil {
		t.Fatal(err)
	}
}

// render leaves out the MAC that a frame comes from, which is the link's.
func (w *wired6) render(frame []byte) string {
	return render6(edit(frame, 6, make([]byte, 6)...))
}

// until asks for the server's address, from one that no exchange has, and returns what comes until that is answered and so
// many frames have come.
func (w *wired6) until(t *testing.T, number int) (came []string) {
	t.Helper()
	question := icmpv6("fe80::77", "ff02::1:ff63:2", solicit("fe80::706f:646e:6963:2", &guestMAC))
	end := w.render(testHandler6(t, bridgePod6(), Settings{}).packet(link.Packet{Data: question, Sum: link.ChecksumFinished})[0].Message)
	w.write(t, question)
	if err := w.tap.SetReadDeadline(time.Now().Add(podtest.Patience)); err != nil {
		t.Fatal(err)
	}
	answered := false
	b := make([]byte, 4096)
	for !answered || len(came) < number {
		n, err := w.tap.Read(b)
		if err != nil {
			t.Errorf("not all is answered (the question %v), after %d of %d frames: %v", answered, len(came), number, err)
			return came
		}
		f := b[:n]
		if n < link.EtherLen+link.IPv6Len+8 || f[12] != 0x86 || f[13] != 0xdd {
			continue
		}
		if f[link.EtherLen+6] == link.ProtoICMPv6 && f[link.EtherLen+link.IPv6Len] == link.NDNeighborSolicitation {
			w.answer(t, f)
			continue
		}
		if text := w.render(f); text == end {
			answered = true
		} else {
			came = append(came, text)
		}
	}
	return came
}

// answer has the guest tell the pod's stack its MAC.
func (w *wired6) answer(t *testing.T, asked []byte) {
	t.Helper()
	ip := asked[link.EtherLen:]
	target, from := ip[link.IPv6Len+8:link.IPv6Len+24], ip[8:24]
	if !bytes.Equal(from, identity.ServerLinkLocal6.AsSlice()) {
		t.Errorf("the guest is asked by somebody else: %s", render6(asked))
		return
	}
	body := append([]byte{link.NDNeighborAdvertisement, 0, 0, 0, 0x60, 0, 0, 0}, target...)
	body = append(append(body, 2, 1), guestMAC[:]...)
	f := icmpv6(netip.AddrFrom16([16]byte(target)).String(), identity.ServerLinkLocal6.String(), body)
	copy(f, asked[6:12])
	w.write(t, f)
}
