package dhcp

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/test/podtest"
)

// needRoot skips what cannot be tried without privileges.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 || os.Getenv("PODNIC_UNIT") != "" {
		t.Skip("needs root: it makes network namespaces and taps")
	}
}

// netns is a network namespace that exists as long as its descriptor is open: no name, no mount, nothing to leave behind.
type netns struct{ file *os.File }

func newNetns(t *testing.T) *netns {
	t.Helper()
	var n netns
	err := onThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		n.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() { n.file.Close() })
	n.ip(t, "link set lo up")
	return &n
}

// onThread runs f on a thread that dies afterwards, so that nobody inherits its namespace.
func onThread(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		result <- f()
	}()
	return <-result
}

func (n *netns) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// ip runs one command of iproute2 per line.
func (n *netns) ip(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		err := n.do(func() error {
			out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
		if err != nil {
			t.Fatalf("ip %s: %v", line, err)
		}
	}
}

func (n *netns) sysctl(t *testing.T, name, value string) {
	t.Helper()
	path := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
	if err := n.do(func() error { return os.WriteFile(path, []byte(value), 0) }); err != nil {
		t.Fatal(err)
	}
}

// tap makes a tap and opens it as an emulator does.
func (n *netns) tap(t *testing.T, name string) *os.File {
	t.Helper()
	var file *os.File
	err := n.do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		request, err := unix.NewIfreq(name)
		if err == nil {
			request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
		}
		// Only now: the poller takes a tap that is not attached yet for one that failed.
		file = os.NewFile(uintptr(fd), name)
		return err
	})
	if err != nil {
		t.Fatalf("make tap %s: %v", name, err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

// pump carries frames between two taps until they are closed.
func pump(t *testing.T, a, b *os.File) {
	var both sync.WaitGroup
	carry := func(to io.Writer, from io.Reader) {
		frame := make([]byte, 1<<16)
		for {
			n, err := from.Read(frame)
			if err != nil {
				return
			}
			_, _ = to.Write(frame[:n]) // nobody hears it while the other end is down
		}
	}
	both.Go(func() { carry(a, b) })
	both.Go(func() { carry(b, a) })
	t.Cleanup(func() { a.Close(); b.Close(); both.Wait() })
}

// guest is a pod with the tap of a guest on its bridge, and the guest's own side in another namespace.
type guest struct {
	pod, inside *netns
	server      *Server
	server6     *Server6
	events      chan Event
}

// stats are those of the server that there is.
func (g *guest) stats() Stats {
	if g.server6 != nil {
		return g.server6.Stats()
	}
	return g.server.Stats()
}

// newGuest wires the pod as package network does, without the filter, and serves it.
func newGuest(t *testing.T, id identity.Identity, o Settings) *guest {
	t.Helper()
	return newGuestIn(t, id, o, func(*netns) {})
}

// newGuestIn has the pod prepared before it is served.
func newGuestIn(t *testing.T, id identity.Identity, o Settings, prepare func(pod *netns)) *guest {
	t.Helper()
	needRoot(t)
	g := &guest{pod: newNetns(t), inside: newNetns(t), events: make(chan Event, 1000)}
	tap := g.pod.tap(t, "tap0")
	g.pod.ip(t, "link add eth0-br type bridge", "link set eth0-br up", "link set tap0 master eth0-br", "link set tap0 up")
	nic := g.inside.tap(t, "eth0")
	g.inside.ip(t, "link set eth0 address "+guestMAC.String(), "link set eth0 up")
	pump(t, tap, nic)

	link := "tap0"
	if o.UDP {
		link = "eth0-br"
		g.forUDP(t, id)
	}
	prepare(g.pod)
	server, err := NewServer(Config{
		Offer: mustOffer(t, id, o), Client: guestMAC, ServerMAC: serverMAC, Link: link, InNamespace: g.pod.do,
		Observe: func(e Event) { g.events <- e }, Log: zaptest.NewLogger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	g.server = server
	serve(t, server)
	return g
}

// forUDP gives a pod with a bridge what a UDP socket needs.
func (g *guest) forUDP(t *testing.T, id identity.Identity) {
	t.Helper()
	g.pod.sysctl(t, "net.ipv4.conf.all.accept_local", "1")
	// The placeholder that keeps the pod's address, and the server's.
	g.pod.ip(t, "address add "+ServerLinkLocal+"/32 dev eth0-br", "link add eth0 type bridge",
		"address add "+id.V4.First().Pod.String()+" dev eth0")
}

// serve runs a server until the test ends.
func serve(t *testing.T, server interface {
	Run(context.Context) error
	Ready() <-chan struct{}
}) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- server.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-result; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	select {
	case <-server.Ready():
	case err := <-result:
		result <- nil
		t.Fatalf("run: %v", err)
	}
}

// wait returns the next event of a kind whose detail contains a text.
func (g *guest) wait(t *testing.T, kind Kind, detail string) Event {
	t.Helper()
	deadline := time.After(podtest.Patience)
	for {
		select {
		case e := <-g.events:
			if e.Kind == kind && strings.Contains(e.Detail, detail) {
				return e
			}
		case <-deadline:
			t.Fatalf("no %s %s; stats %+v", kind, detail, g.stats())
		}
	}
}

// start runs a client in the guest's namespace until the test ends. Its thread lives as long as it does, because the
// kernel ends it with that thread, so that it does not outlive a test that is killed.
func (g *guest) start(t *testing.T, command ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		g.inside.do(func() error {
			err := cmd.Start()
			started <- err
			if err == nil {
				cmd.Wait()
			}
			return nil
		})
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(unix.SIGTERM)
		select {
		case <-ended:
		case <-time.After(5 * time.Second): // a client that is in the middle of something may not hear it
			cmd.Process.Kill()
			<-ended
		}
	})
	return cmd
}

// output runs a command in the namespace.
func (n *netns) output(command ...string) (out string, err error) {
	err = n.do(func() error {
		b, err := exec.Command(command[0], command[1:]...).Output()
		out = string(b)
		return err
	})
	return out, err
}
