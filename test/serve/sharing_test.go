package serve

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// TestProbesReachPodnicBesideItsGuest takes sysctl, flags and probe of the launcher pod whose guest shares the pod's address, and
// asks as the kubelet does, from the node: podnic answers at its port, and the guest at its own.
func TestProbesReachPodnicBesideItsGuest(t *testing.T) {
	podtest.NeedRoot(t)
	t.Parallel()
	b, err := os.ReadFile(filepath.Join("..", "..", "deploy", "launcher", "shared", "pod.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest corev1.Pod
	if err := yaml.UnmarshalStrict(b, &manifest); err != nil {
		t.Fatal(err)
	}
	launcher := manifest.Spec.Containers[0]
	var wiring, serving []string
	for _, arg := range launcher.Args {
		switch flag, _, _ := strings.Cut(arg, "="); flag {
		case "--binding", "--pod-ports", "--guest-ports":
			wiring = append(wiring, arg)
		case "--metrics-listen":
			serving = append(serving, arg)
		}
	}
	s := podtest.NewSite(t, podtest.Node(t), pod.PTP)
	for _, sysctl := range manifest.Spec.SecurityContext.Sysctls {
		podtest.In(t, s.Pod.Namespace, fmt.Sprintf("sysctl -qw '%s=%s'", sysctl.Name, sysctl.Value))
	}
	s.Remember()
	s.Must(append([]string{"prepare"}, wiring...)...)
	server := s.Serve(serving...)
	probe := launcher.ReadinessProbe.HTTPGet
	address := net.JoinHostPort(s.Pod.Address.Addr().String(), probe.Port.String())
	ask := func(path string) (status int, text string) {
		t.Helper()
		status, text, err := podtest.Get(func() (net.Conn, error) { return s.Node.DialContext(t.Context(), "tcp", address) }, path)
		if err != nil {
			t.Fatal(err)
		}
		return status, text
	}
	if status, text := ask(probe.Path); status != http.StatusServiceUnavailable {
		t.Errorf("without a guest: %d %s", status, text)
	}
	card := s.Guest()
	unplug := s.Plug(card)
	podtest.In(t, card, "busybox udhcpc -f -q -i eth0 -s /bin/true")
	for deadline := time.Now().Add(podtest.Patience); ; time.Sleep(10 * time.Millisecond) { // the reply is sent before it is noted
		status, text := ask(probe.Path)
		if status == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("with a lease: %d %s", status, text)
		}
	}
	if status, text := ask("/metrics"); status != http.StatusOK || !strings.Contains(text, `podnic_guest_ready{interface="eth0"} 1`) {
		t.Errorf("metrics: %d %s", status, text)
	}
	i := s.Status().Interfaces[0]
	if !slices.Equal(i.PodPorts, []string{"9640/tcp"}) || !slices.Equal(i.GuestPorts, []string{"80/tcp"}) {
		t.Errorf("status: %+v", i)
	}
	server.End(syscall.SIGTERM)
	unplug()
	s.Must("restore")
	s.AsBefore()
}
