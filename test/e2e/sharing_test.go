//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"sigs.k8s.io/e2e-framework/pkg/envconf"

	"github.com/podnic/podnic/test/guest"
)

// Ports of the containers beside the guest. The exporter's is of localhost alone, and so the guest's for everybody else.
const (
	webPort      = 8080
	exporterPort = 9100
)

// TestGuestAndContainersAreThePod has three containers beside a guest, in each family that the cluster's pods have: a web server
// on a port that the pod keeps, a client that connects out a thousand times, and an exporter on localhost that asks the guest.
func TestGuestAndContainersAreThePod(t *testing.T) {
	for _, v := range shared {
		testenv.Test(t, scenario(besideContainers).feature(v, v.name))
	}
}

func besideContainers(ctx context.Context, t *testing.T, c *envconf.Config, v variant) {
	l := v.start(ctx, t, c, "beside", (*launcher).haveCompany)
	l.untilReady(ctx, t, c) // by podnic's port, and the web server's
	unlisted := func(warning string) bool { return strings.Contains(warning, "--pod-ports") }
	if status := l.status(ctx, t, c); status.Phase != "ready" || slices.ContainsFunc(status.Interfaces[0].Warnings, unlisted) {
		t.Errorf("status: %+v", status)
	}
	server, err := run(ctx, c, client(), "sh", "-c", "httpd -p 8081 -h /bin; ip -o address show dev eth0 scope global")
	if err != nil {
		t.Fatal(err)
	}
	var others []netip.Addr
	for line := range strings.Lines(server) {
		if prefix, err := netip.ParsePrefix(strings.Fields(line)[3]); err == nil {
			others = append(others, prefix.Addr())
		}
	}
	if len(others) != len(l.pod.Status.PodIPs) {
		t.Fatalf("the pod has %v, and the other one %v", l.pod.Status.PodIPs, others)
	}
	connects := ""
	for i, ip := range l.pod.Status.PodIPs {
		address, other := netip.MustParseAddr(ip.IP), others[i]
		if address.Is4() != other.Is4() {
			t.Fatalf("the pod has %v, and the other one %v", l.pod.Status.PodIPs, others)
		}
		if address.Is6() { // the guest has no client of DHCPv6
			const adds = "ip address add %s/128 dev eth0 && until ip -6 route show default | grep -q via; do usleep 50000; done"
			if _, err := inGuest(ctx, c, l.pod.Status.PodIP, fmt.Sprintf(adds, ip.IP)); err != nil {
				t.Fatal(err)
			}
		}
		connects += fmt.Sprintf("wget -q --spider http://%s/busybox || exit 1\n", netip.AddrPortFrom(other, 8081))
		if err := hello(ctx, c, host(address)); err != nil {
			t.Errorf("the other pod does not reach the guest at %s: %v", address, err)
		}
		page, err := run(ctx, c, client(), "timeout", "60", "wget", "-q", "-O", "-", "http://"+netip.AddrPortFrom(address, webPort).String())
		if err != nil || page != "the container\n" {
			t.Errorf("the web server at %s says %q, %v", address, page, err)
		}
		_, err = run(ctx, c, client(), "timeout", "60", "wget", "-q", "-O", "-", "http://"+netip.AddrPortFrom(address, exporterPort).String())
		if err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("the exporter's port at %s is not the guest's, who has nobody there: %v", address, err)
		}
		if _, err := inGuest(ctx, c, l.pod.Status.PodIP, fmt.Sprintf("wget -q --spider http://%s/busybox", netip.AddrPortFrom(other, 8081))); err != nil {
			t.Errorf("the guest does not reach the other pod at %s: %v", other, err)
		}
	}
	thousand := fmt.Sprintf("for i in $(seq %d); do\n%sdone", 1000/len(others), connects)
	if _, err := runIn(ctx, c, l.pod, "client", "timeout", "300", "sh", "-c", thousand); err != nil {
		t.Errorf("a container that connects out: %v", err)
	}
	for _, page := range []string{"metrics", "metrics6"} {
		if page == "metrics6" && len(others) == 1 {
			continue
		}
		scraped, err := runIn(ctx, c, l.pod, "exporter", "timeout", "60", "wget", "-q", "-O", "-", fmt.Sprintf("http://127.0.0.1:%d/cgi-bin/%s", exporterPort, page))
		if err != nil || scraped != "hello from the guest\n" {
			t.Errorf("the exporter has of the guest: %q, %v", scraped, err)
		}
	}
	dial, err := forward(t, c, l.pod, 80)
	if err != nil {
		t.Fatal(err)
	}
	forwarded := guest.Client{Address: netip.MustParseAddr(l.pod.Status.PodIP), Dial: dial}
	if answer, err := forwarded.Hello(ctx); err != nil || answer != "hello from the guest\n" {
		t.Errorf("kubectl port-forward leads to %q, %v", answer, err)
	}
}

// host is an address as a URL has it.
func host(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// haveCompany adds the containers, and has the pod keep the web server's port.
func (l *launcher) haveCompany() {
	args := l.pod.Spec.Containers[0].Args
	for i, arg := range args {
		if strings.HasPrefix(arg, "--pod-ports=") {
			args[i] = fmt.Sprintf("%s,%d/tcp", arg, webPort)
		}
	}
	web := companion("web", fmt.Sprintf("echo the container >/www/index.html; httpd -f -p %d -h /www", webPort))
	web.ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
		HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt32(webPort)},
	}}
	exporter := companion("exporter", fmt.Sprintf(`mkdir /www/cgi-bin
for page in metrics=127.0.0.1 metrics6=[fd10:0:2::2]; do
	printf '#!/bin/sh\necho\nwget -q -O - http://%%s/hello\n' "${page#*=}" >/www/cgi-bin/${page%%%%=*}
done
chmod +x /www/cgi-bin/*
httpd -f -p 127.0.0.1:%d -h /www`, exporterPort))
	l.pod.Spec.Containers = append(l.pod.Spec.Containers, web, companion("client", "sleep 3600"), exporter)
	for _, name := range []string{"web", "client", "exporter"} {
		l.pod.Spec.Volumes = append(l.pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	}
}

// companion is a container that runs a script without any privilege, and ends at once when it is told to.
func companion(name, script string) corev1.Container {
	no, nobody := false, int64(65532)
	return corev1.Container{
		Name: name, Image: image("podnic-test"), ImagePullPolicy: corev1.PullNever,
		Command:      []string{"sh", "-c", "trap 'exit 0' TERM\n(" + script + ") & wait"},
		VolumeMounts: []corev1.VolumeMount{{Name: name, MountPath: "/www"}},
		SecurityContext: &corev1.SecurityContext{
			RunAsUser: &nobody, AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}
}

// forward is what `kubectl port-forward` does until the test ends: what is dialled is the pod's port, whatever the address.
func forward(t *testing.T, c *envconf.Config, pod *corev1.Pod, port int) (func(ctx context.Context, network, address string) (net.Conn, error), error) {
	config := c.Client().RESTConfig()
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return nil, err
	}
	url := clients.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("portforward").URL()
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)
	stop, ready, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	t.Cleanup(func() { close(stop) })
	var complaints bytes.Buffer
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf("0:%d", port)}, stop, ready, io.Discard, &complaints)
	if err != nil {
		return nil, err
	}
	go func() { ended <- forwarder.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-ended:
		return nil, errors.Join(err, errors.New(complaints.String()))
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		return nil, err
	}
	local := fmt.Sprintf("127.0.0.1:%d", ports[0].Local)
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", local)
	}, nil
}
