package main

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// TestLookLeavesOutWhatIsOthers makes what a node has of its own, of the suite's pods and of others', and looks at it.
func TestLookLeavesOutWhatIsOthers(t *testing.T) {
	podtest.NeedRoot(t)
	const own, other = "0f9b1c1e-8a5f-4b0e-9d6a-2f8f5f4d1a01", "77c0f0a4-31e7-4bb1-8f53-3a8a8e2d9b02"
	node := podtest.Node(t)
	var all []process
	for name, uid := range map[string]string{"own": own, "other": other} {
		all = append(all, process{
			pid: sleeping(t, podtest.Pod(t, node, pod.Spec{Name: name, Network: pod.PTP})), program: "sleep",
			cgroups: []byte("0::/kubepods.slice/kubepods-pod" + strings.ReplaceAll(uid, "-", "_") + ".slice/cri-containerd-1.scope"),
		})
	}
	all = append(all,
		process{pid: 1, program: "podnic", cgroups: []byte("0::/kubepods/besteffort/pod" + own + "/1")},
		process{pid: 1, program: "podnic", cgroups: []byte("0::/kubepods/besteffort/pod" + other + "/1")},
		process{pid: 1, program: "podnic", cgroups: []byte("0::/system.slice/podnic.service")},
	)
	for _, command := range []string{
		"ip link add cilium_host type bridge",
		"ip link add eth0-br group 0x70000002 type bridge",
		"nft add table inet cni_hostport",
		"nft add table bridge podnic-eth0",
	} {
		if _, err := node.Output(t.Context(), "sh", "-c", command); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name   string
		others []string
		want   string
	}{
		{"nobody else", nil, `link bridge eth0-br of podnic
link of a pod
link of a pod
process podnic
process podnic
table 7 podnic-eth0
`},
		{"another's pod", []string{other}, `link bridge eth0-br of podnic
link of a pod
process podnic
table 7 podnic-eth0
`},
	} {
		var seen bytes.Buffer
		if err := node.Do(func() error { return look(&seen, all, test.others) }); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, seen.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// sleeping starts a process in a pod, which goes with it.
func sleeping(t *testing.T, p *pod.Pod) int {
	t.Helper()
	cmd := p.Command(t.Context(), "sh", "-c", "echo here; exec sleep 1000")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		_, err = bufio.NewReader(out).ReadString('\n')
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}
