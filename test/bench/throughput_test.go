package bench

import (
	"encoding/binary"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
	"github.com/podnic/podnic/test/shapes/tap"
)

// frames is how many frames one run sends.
const frames = 20_000

// BenchmarkThroughput sends full frames of UDP from the guest's side of the tap to the pod network, as fast as it takes
// them: the time of one frame with and without a server that listens on the tap. A program stands in for the guest, since
// an emulated one is slower than the wiring. It also counts what the server wakes up for.
func BenchmarkThroughput(b *testing.B) {
	podtest.NeedRoot(b)
	podnic := podtest.Program(b)
	node := podtest.Node(b)
	p := podtest.Pod(b, node, pod.Spec{Name: "vm", Network: plain})
	dir := memoryDir(b)
	mac := func(n *pod.Namespace, name string) (address net.HardwareAddr) {
		err := n.Do(func() error {
			link, err := net.InterfaceByName(name)
			if err == nil {
				address = link.HardwareAddr
			}
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
		return address
	}
	guest, gateway := mac(p.Namespace, "eth0"), mac(node.Namespace, p.HostLink)
	run(b, p, podnic, "prepare", "--state-dir", dir)
	defer run(b, p, podnic, "restore", "--force", "--state-dir", dir)
	var card *os.File
	if err := p.Do(func() (err error) { card, err = tap.Open("tap0"); return err }); err != nil {
		b.Fatal(err)
	}
	defer card.Close()
	frame := udpFrame(flow{guest, gateway, podAddress[:], []byte{198, 51, 100, 9}, 40000, 9}, plain.MTU) // behind the gateway, and discard's port
	send := func() time.Duration {
		began := time.Now()
		for range frames {
			if _, err := card.Write(frame); err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(began) / frames
	}
	send()
	b.Run("frame", func(b *testing.B) {
		var with, without []time.Duration
		for b.Loop() {
			without = append(without, send())
			s := serve(b, p, podnic, dir)
			with = append(with, send())
			s.end()
		}
		median(b, with)
		b.ReportMetric(float64(middle(without)), "without-ns/op")
		b.ReportMetric(float64(len(frame)-tapHeader), "frame-B")
	})
}

// tapHeader is the virtio header before each frame.
const tapHeader = 12

// flow is where frames come from and go to.
type flow struct {
	fromMAC, toMAC   net.HardwareAddr
	from, to         []byte // of IPv4
	fromPort, toPort uint16
}

// udpFrame is a frame of UDP that fills the MTU, with the header of a tap.
func udpFrame(w flow, mtu int) []byte {
	f := make([]byte, tapHeader, tapHeader+14+mtu)
	f = append(append(f, w.toMAC...), w.fromMAC...)
	f = binary.BigEndian.AppendUint16(f, unix.ETH_P_IP)
	ip := make([]byte, mtu)
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(ip[2:], uint16(mtu))
	copy(ip[12:], w.from)
	copy(ip[16:], w.to)
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	binary.BigEndian.PutUint16(ip[20:], w.fromPort)
	binary.BigEndian.PutUint16(ip[22:], w.toPort)
	binary.BigEndian.PutUint16(ip[24:], uint16(mtu-20))
	return append(f, ip...)
}
