//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/e2e-framework/pkg/features"
)

// scenario is a test of one variant.
type scenario func(ctx context.Context, t *testing.T, c *envconf.Config, v variant)

func (s scenario) feature(v variant, name string) features.Feature {
	return features.New(name).Assess("holds", func(ctx context.Context, t *testing.T, c *envconf.Config) context.Context {
		s(ctx, t, c, v)
		return ctx
	}).Feature()
}

// each runs a scenario for all variants at once: most of the time is waiting.
func each(t *testing.T, s scenario) {
	var all []features.Feature
	for _, v := range variants {
		all = append(all, s.feature(v, v.name))
	}
	testenv.TestInParallel(t, all...)
}

func TestGuestIsThePod(t *testing.T) {
	each(t, func(ctx context.Context, t *testing.T, c *envconf.Config, v variant) {
		l := v.start(ctx, t, c, "pod", nil)
		l.untilReady(ctx, t, c)
		address := l.pod.Status.PodIP

		status := l.status(ctx, t, c)
		nic := status.Interfaces[0]
		if status.Phase != "ready" || nic.Lease.State != "bound" || nic.Lease.Address != address {
			t.Errorf("ready, and yet the status is %+v; the pod's address is %s", status, address)
		}
		// Both are of this node's clock; Kubernetes keeps whole seconds.
		if ready := readySince(l.pod); ready.Before(nic.Lease.Since.Truncate(time.Second)) {
			t.Errorf("ready since %v, before the lease of %v", ready, nic.Lease.Since)
		}
		drawn, err := run(ctx, c, l.pod, "podnic", "status")
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{"eth0-nic", "eth0-br", "tap0", "guest attached", "vm (running)", nic.MAC, address} {
			if !strings.Contains(drawn, part) {
				t.Errorf("podnic status does not show %s:\n%s", part, drawn)
			}
		}

		own, err := inGuest(ctx, c, address, "cat /sys/class/net/eth0/address; ip -4 -o address show dev eth0; hostname")
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{nic.MAC, " " + address + "/", "pod"} {
			if !strings.Contains(own, part) {
				t.Errorf("the guest's own view lacks %q:\n%s", part, own)
			}
		}
		if err := hello(ctx, c, address); err != nil {
			t.Errorf("the other pod does not reach the guest: %v", err)
		}
		// The endpoint follows the pod's readiness a moment later, and the node's rules the endpoint.
		var refused error
		err = eventually(ctx, func(ctx context.Context) (bool, error) {
			refused = hello(ctx, c, l.service.Spec.ClusterIP)
			return refused == nil, nil
		})
		if err != nil {
			t.Errorf("the other pod does not reach the guest by its Service: %v; does the cluster have a kube-proxy? its own Service: %v", refused, ownService(ctx, c))
		}
		l.checkPrivileges(ctx, t, c)
	})
}

// checkPrivileges reads who runs what in the pod: the daemon and the emulator never have a capability, and podnic has
// those of its variant.
func (l *launcher) checkPrivileges(ctx context.Context, t *testing.T, c *envconf.Config) {
	t.Helper()
	// Of each process its name, user and permitted capabilities, without their leading zeros.
	const each = `for p in /proc/[0-9]*; do
		sed -n 's/^Name:\s*//p; s/^Uid:\s*\(\S*\).*/\1/p; s/^CapPrm:\s*0*//p' $p/status | tr '\n' ' '
		echo
	done`
	out, err := run(ctx, c, l.pod, "sh", "-c", each)
	if err != nil {
		t.Fatal(err)
	}
	podnic := "podnic 0 3000" // CAP_NET_ADMIN and CAP_NET_RAW
	if l.name == restricted {
		podnic = "podnic 107 "
	}
	for _, want := range []string{podnic, "libvirtd 107 ", "qemu-system-x86 107 "} {
		if !strings.Contains("\n"+out, "\n"+want+" \n") {
			t.Errorf("no process is %q (name, user, capabilities) among:\n%s", want, out)
		}
	}
}

// TestGuestWithoutLeaseIsNotReady gives the guest an address that is not the pod's.
func TestGuestWithoutLeaseIsNotReady(t *testing.T) {
	each(t, func(ctx context.Context, t *testing.T, c *envconf.Config, v variant) {
		l := v.start(ctx, t, c, "stranger", func(l *launcher) { l.arguments("podnic.static=203.0.113.9/24,203.0.113.1") })
		l.until(ctx, t, c, "running a guest that is up", func(pod *corev1.Pod) bool {
			said, err := logs(ctx, c, pod, "launcher", false)
			return err == nil && strings.Contains(said, "guest: ready")
		})
		if _, err := run(ctx, c, l.pod, "podnic", "status", "--wait", "ready"); err == nil {
			t.Error("the probe succeeds, and the guest has no lease")
		}
		if status := l.status(ctx, t, c); status.Phase != "serving" {
			t.Errorf("phase %s, want serving", status.Phase)
		}
		if since := readySince(l.pod); since != nil {
			t.Errorf("the pod is ready since %v, and its guest has no lease", since)
		}
	})
}

// TestKilledLauncherComesBack kills podnic, and with it the container: its processes are all in one PID namespace.
func TestKilledLauncherComesBack(t *testing.T) {
	var scenarios []features.Feature
	for _, v := range everyVariant() {
		scenarios = append(scenarios,
			comesBack("state-kept", nil).feature(v, v.name+"/state-kept"),
			comesBack("state-lost", func(l *launcher) { l.withoutVolume("run") }).feature(v, v.name+"/state-lost"),
		)
	}
	testenv.TestInParallel(t, scenarios...)
}

func comesBack(name string, change func(*launcher)) scenario {
	return func(ctx context.Context, t *testing.T, c *envconf.Config, v variant) {
		l := v.start(ctx, t, c, name, change)
		l.untilReady(ctx, t, c)
		address, before := l.pod.Status.PodIP, l.status(ctx, t, c).Interfaces[0]

		killed, err := suite.node.kill(ctx, c, l.pod.Status.ContainerStatuses[0])
		if err != nil {
			t.Fatal(err)
		}
		if killed != "killed podnic\n" {
			t.Fatalf("the container's first process is another one: %s", killed)
		}
		l.until(ctx, t, c, "ready after a restart", func(pod *corev1.Pod) bool {
			return pod.Status.ContainerStatuses[0].RestartCount > 0 && readySince(pod) != nil
		})
		container := l.pod.Status.ContainerStatuses[0]
		if last := container.LastTerminationState.Terminated; container.RestartCount != 1 || last == nil || last.ExitCode != 137 {
			t.Errorf("%d restarts, the last end %+v; want one, by SIGKILL", container.RestartCount, last)
		}
		after := l.status(ctx, t, c).Interfaces[0]
		if l.pod.Status.PodIP != address || after.MAC != before.MAC || after.Lease.Address != address {
			t.Errorf("the guest's network is another one: before %+v, after %+v", before, after)
		}
		if err := hello(ctx, c, address); err != nil {
			t.Error(err)
		}
	}
}

func TestGuestPowersOffAndThePodCompletes(t *testing.T) {
	each(t, func(ctx context.Context, t *testing.T, c *envconf.Config, v variant) {
		l := v.start(ctx, t, c, "poweroff", nil)
		l.untilReady(ctx, t, c)
		if _, err := inGuest(ctx, c, l.pod.Status.PodIP, "(sleep 1; poweroff -f) >/dev/null 2>&1 &"); err != nil {
			t.Fatal(err)
		}
		l.until(ctx, t, c, "over", func(pod *corev1.Pod) bool { return ended(pod) != nil })
		if end := ended(l.pod); end.ExitCode != 0 {
			t.Errorf("exit status %d, want 0", end.ExitCode)
		}
		l.until(ctx, t, c, "succeeded", func(pod *corev1.Pod) bool { return pod.Status.Phase == corev1.PodSucceeded })
	})
}

func TestGuestIsDestroyedAndThePodFails(t *testing.T) {
	each(t, func(ctx context.Context, t *testing.T, c *envconf.Config, v variant) {
		l := v.start(ctx, t, c, "destroyed", func(l *launcher) { l.pod.Spec.RestartPolicy = corev1.RestartPolicyNever })
		l.untilReady(ctx, t, c)
		if _, err := run(ctx, c, l.pod, "virsh", "destroy", "vm"); err != nil {
			t.Fatal(err)
		}
		l.until(ctx, t, c, "failed", func(pod *corev1.Pod) bool { return pod.Status.Phase == corev1.PodFailed })
		if end := ended(l.pod); end == nil || end.ExitCode != 6 {
			t.Errorf("the container ended with %+v, want exit status 6", end)
		}
	})
}

// holding keeps a deleted pod's object until the suite has seen how it ended.
const holding = "podnic.example/e2e"

func TestDeletedPodShutsItsGuestDown(t *testing.T) {
	each(t, func(ctx context.Context, t *testing.T, c *envconf.Config, v variant) {
		l := v.start(ctx, t, c, "deleted", func(l *launcher) { l.pod.Finalizers = []string{holding} })
		t.Cleanup(func() { l.letGo(context.WithoutCancel(ctx), t, c) })
		l.untilReady(ctx, t, c)
		heard := make(chan string, 1)
		go func() {
			said, err := follow(ctx, c, l.pod, "launcher")
			heard <- said + fmt.Sprintln("end of the log:", err)
		}()
		r := c.Client().Resources()
		if err := r.Delete(ctx, l.pod); err != nil {
			t.Fatal(err)
		}
		l.until(ctx, t, c, "over", func(pod *corev1.Pod) bool { return ended(pod) != nil })
		said := <-heard
		end := ended(l.pod)
		if end.ExitCode != 0 {
			t.Errorf("exit status %d, want 0", end.ExitCode)
		}
		// The time of the deletion is when the grace period ends.
		if end.FinishedAt.After(l.pod.DeletionTimestamp.Time) {
			t.Errorf("ended at %v, the grace period at %v", end.FinishedAt, l.pod.DeletionTimestamp)
		}
		for _, part := range []string{"guest: power button", "guest: bye"} {
			if !strings.Contains(said, part) {
				t.Errorf("the log has no %q:\n%s", part, said)
			}
		}
	})
}

// letGo lets the pod's object go.
func (l *launcher) letGo(ctx context.Context, t *testing.T, c *envconf.Config) {
	err := eventually(ctx, func(ctx context.Context) (bool, error) {
		pod := &corev1.Pod{}
		r := c.Client().Resources()
		if err := r.Get(ctx, l.pod.Name, l.pod.Namespace, pod); err != nil {
			return ignoreNotFound(err) == nil, ignoreNotFound(err)
		}
		pod.Finalizers = nil
		return r.Update(ctx, pod) == nil, nil // another's change came first: once more
	})
	if err != nil {
		t.Errorf("take the finalizer from %s: %v", l.pod.Name, err)
	}
}

func TestTenLaunchersAtOnce(t *testing.T) {
	for _, v := range variants { // in turn: ten keep a small node busy
		testenv.Test(t, scenario(tenAtOnce).feature(v, v.name))
	}
}

func tenAtOnce(ctx context.Context, t *testing.T, c *envconf.Config, v variant) {
	const launchers = 10
	var all []*launcher
	for i := range launchers {
		all = append(all, v.start(ctx, t, c, fmt.Sprintf("ten-%d", i), nil))
	}
	seen := make(map[string]string)
	for _, l := range all {
		l.untilReady(ctx, t, c)
		address := l.pod.Status.PodIP
		if other, taken := seen[address]; taken {
			t.Errorf("%s has the address of %s, %s", l.pod.Name, other, address)
		}
		seen[address] = l.pod.Name
		name, err := inGuest(ctx, c, address, "hostname")
		if err != nil || strings.TrimSpace(name) != l.pod.Name {
			t.Errorf("at %s there is %q: %v, want %s", address, name, err, l.pod.Name)
		}
	}
	// All at once again: the clean-up takes one after the other.
	var group sync.WaitGroup
	for _, l := range all {
		group.Go(func() {
			if err := remove(ctx, c, l.pod); err != nil {
				t.Errorf("remove %s: %v", l.pod.Name, err)
			}
		})
	}
	group.Wait()
}
