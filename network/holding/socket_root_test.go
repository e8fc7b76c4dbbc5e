package holding

import (
	"net"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestHolderIsToldByTheKernel has sockets in a pod and asks both ways.
func TestHolderIsToldByTheKernel(t *testing.T) {
	ns := newNamespace(t)
	err := ns.Do(func() error {
		for _, name := range []string{"@podnic/test/eth0", "@podnic/test/eth01", "@another"} {
			c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: name})
			if err != nil {
				return err
			}
			t.Cleanup(func() { c.Close() })
		}
		// One of another type is another name (unix(7)).
		l, err := net.Listen("unix", "@podnic/test/stream")
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if holders, err := OfSockets(ns, "podnic/test/"); err != nil || len(holders) != 2 {
		t.Errorf("%v, %v", holders, err)
	}
	h, err := OfSocket(ns, "podnic/test/eth0")
	if err != nil || h == nil {
		t.Fatalf("%v, %v", h, err)
	}
	if h.Name != "podnic/test/eth0" || !h.Trusted() || !h.HeldBy(os.Getpid()) || h.Process() != os.Getpid() || !strings.Contains(h.String(), "of user 0") {
		t.Errorf("%+v: %s", h, h)
	}
	if h.HeldBy(os.Getppid()) {
		t.Error("its parent has it")
	}
	if h, err := OfSocket(ns, "podnic/test/eth"); h != nil || err != nil {
		t.Errorf("a name that nobody has: %v, %v", h, err)
	}
	byName := func(holders []Socket) map[string]Socket {
		m := make(map[string]Socket)
		for _, h := range holders {
			m[h.Name] = h
		}
		return m
	}
	err = ns.Do(func() error {
		told, err := diagnosed()
		if err != nil {
			return err
		}
		read, err := listed()
		if diff := cmp.Diff(byName(told), byName(read), cmp.AllowUnexported(Socket{})); diff != "" {
			t.Errorf("sock_diag and /proc/net/unix differ:\n%s", diff)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
