package cni

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
	"go.uber.org/zap"
)

// TestAddThatCannotUndoLeavesItToDel: another podnic comes in between the settings that ADD has made and a wiring that
// fails. What it takes to put the settings back has to be there for DEL.
func TestAddThatCannotUndoLeavesItToDel(t *testing.T) {
	podtest.NeedRoot(t)
	p := podtest.Pod(t, podtest.Node(t), pod.Spec{Name: "vm", Network: pod.PTP})
	c := &call{
		CmdArgs: &skel.CmdArgs{ContainerID: "vm", IfName: "eth0", Netns: p.Path},
		config:  &config{Binding: plan.BindingBridge}, store: attachments{t.TempDir()}, log: zap.NewNop(),
	}
	a, _, err := c.attach()
	if err != nil {
		t.Fatal(err)
	}
	if known, err := c.know(a); known || err != nil {
		t.Fatal(known, err)
	}
	if _, err := network.Provide(t.Context(), c.request(a, p.Path), nil, nil); err != nil {
		t.Fatal(err)
	}

	other, err := network.OpenNamespace(p.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	unlock, _, err := other.Lock(t.Context(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	patience := lockTimeout
	lockTimeout = 10 * time.Millisecond
	defer func() { lockTimeout = patience }()
	cause := errors.New("the wiring failed")
	if err := c.undo(a, cause); !errors.Is(err, cause) {
		t.Errorf("the error is %v", err)
	}
	if left, err := c.store.load("vm", "eth0"); left == nil || err != nil {
		t.Errorf("the attachment is %v, %v", left, err)
	}

	unlock()
	if err := del(c); err != nil {
		t.Fatal(err)
	}
	var first []byte
	err = p.Do(func() (err error) {
		first, err = os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
		return err
	})
	if string(first) != "1024\n" || err != nil {
		t.Errorf("after DEL, ports are unprivileged from %q on: %v", first, err)
	}
}
