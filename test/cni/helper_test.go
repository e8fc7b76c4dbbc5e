package cni

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/test/shapes/tap"
)

// helpers are what the test's own program does when it is run as somebody else: each takes the name of a link.
var helpers = map[string]func(link string) error{"say": say, "open": open}

const helperVariable = "PODNIC_TEST_HELPER"

// TestMain runs a helper, or the tests.
func TestMain(m *testing.M) {
	if f := helpers[os.Getenv(helperVariable)]; f != nil {
		if err := f(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	// Most of their time the tests wait for duplicate address detection.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// unprivileged is a script that makes /dev/net/tun what it is on a node and runs a command as a user without any
// capability and with no way to one.
func unprivileged(uid int) string {
	return fmt.Sprintf(`
mount -t tmpfs -o mode=755 tmpfs /dev/net
mknod -m 666 /dev/net/tun c 10 200
exec setpriv --reuid %[1]d --regid %[1]d --clear-groups --no-new-privs --bounding-set -all --inh-caps -all \
	--ambient-caps -all -- "$0" "$@"`, uid)
}

// helper prepares a helper that runs in the pod as such a user.
func (s *site) helper(uid int, name, link string) *exec.Cmd {
	s.t.Helper()
	program := filepath.Join(publicDir(s.t), "helper")
	copyFile(s.t, "/proc/self/exe", program)
	cmd := exec.Command("nsenter", "--net="+s.pod.Path, "--", "unshare", "--mount", "sh", "-e", "-c", unprivileged(uid), program, link)
	cmd.Env = append(os.Environ(), helperVariable+"="+name)
	return cmd
}

// say broadcasts what a DHCP server broadcasts, on one link.
func say(link string) error {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		return errors.Join(raw.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), link) }), err)
	}}
	conn, err := config.ListenPacket(context.Background(), "udp4", ":67")
	if err != nil {
		return err
	}
	defer conn.Close()
	source := unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: identity.ServerLinkLocal.As4()})
	_, _, err = conn.(*net.UDPConn).WriteMsgUDP([]byte("offer"), source, &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
	return err
}

func open(link string) error {
	file, err := tap.Open(link)
	if err != nil {
		return err
	}
	return file.Close()
}

// run has a command of shell words run a prepared program in the node's namespace, and returns what it prints.
func (s *site) run(cmd *exec.Cmd, words ...string) string {
	s.t.Helper()
	path, err := exec.LookPath(words[0])
	if err != nil {
		s.t.Fatal(err)
	}
	cmd.Args = append(words, cmd.Args...)
	cmd.Path = path
	var out []byte
	err = s.node.Do(func() error {
		out, _ = cmd.CombinedOutput() // the text says how it ended
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return string(out)
}
