//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
)

// The tun device by the name that the manifests have, which may be another plugin's in this cluster, and by the one that
// the suite's own device plugin gives it.
const (
	manifestsTun = "squat.ai/tun"
	tunResource  = "podnic.example/tun"
)

// node is the one that the suite works on, by the pod that may do everything there.
type node struct {
	name string
	pod  *corev1.Pod
	// tun is a device on the node that any user may open.
	tun string
}

// startNode settles on a node and starts the suite's pod there.
func startNode(ctx context.Context, c *envconf.Config) (*node, error) {
	name, err := readyNode(ctx, c)
	if err != nil {
		return nil, err
	}
	n := &node{name: name, pod: nodePod(name)}
	r := c.Client().Resources()
	if err := r.Create(ctx, n.pod); err != nil {
		return nil, err
	}
	return n, eventually(ctx, func(ctx context.Context) (bool, error) {
		if err := r.Get(ctx, n.pod.Name, n.pod.Namespace, n.pod); err != nil {
			return false, err
		}
		for _, s := range n.pod.Status.ContainerStatuses {
			if s.State.Waiting != nil && s.State.Waiting.Reason == "ErrImageNeverPull" {
				return false, fmt.Errorf("the node %s has no image %s: build it with `make images` and load it there", name, s.Image)
			}
		}
		if n.pod.Status.Phase == corev1.PodPending {
			return false, nil
		}
		said, err := logs(ctx, c, n.pod, "node", false)
		if n.pod.Status.Phase != corev1.PodRunning {
			return false, fmt.Errorf("the node's pod has ended: %s", said)
		}
		_, n.tun, _ = strings.Cut(strings.TrimSpace(said), "tun ")
		if err != nil || n.tun == "" {
			return false, err
		}
		on := &corev1.Node{}
		err = r.Get(ctx, name, "", on)
		offered := on.Status.Allocatable[tunResource]
		return !offered.IsZero(), err
	})
}

// nodePod runs test/e2e/node with all rights on a node.
func nodePod(name string) *corev1.Pod {
	root, yes := int64(0), true
	container := corev1.Container{
		Name: "node", Image: image("podnic-test"), ImagePullPolicy: corev1.PullNever,
		Command:         []string{"node", "serve", tunResource},
		SecurityContext: &corev1.SecurityContext{Privileged: &yes, RunAsUser: &root},
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "node", Namespace: suite.name},
		Spec:       corev1.PodSpec{NodeName: name, HostPID: true, HostNetwork: true},
	}
	directory := corev1.HostPathDirectory
	mount := func(name, from, to string) {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			HostPath: &corev1.HostPathVolumeSource{Path: from, Type: &directory},
		}})
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: to})
	}
	const plugins = "/var/lib/kubelet/device-plugins"
	mount("dev", "/dev", "/node/dev")
	mount("plugins", plugins, plugins)
	for _, v := range variants {
		if v.name == restricted {
			conf := setting("CNI_CONF_DIR", "/etc/cni/net.d")
			container.Command = append(container.Command, v.namespace(), conf)
			mount("cni-conf", conf, "/node/cni/conf")
			mount("cni-bin", setting("CNI_BIN_DIR", "/opt/cni/bin"), "/node/cni/bin")
		}
	}
	pod.Spec.Containers = []corev1.Container{container}
	return pod
}

func readyNode(ctx context.Context, c *envconf.Config) (string, error) {
	nodes := &corev1.NodeList{}
	if err := c.Client().Resources().List(ctx, nodes); err != nil {
		return "", err
	}
	for _, n := range nodes.Items {
		for _, condition := range n.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue && !n.Spec.Unschedulable {
				return n.Name, nil
			}
		}
	}
	return "", fmt.Errorf("none of the cluster's %d nodes is ready", len(nodes.Items))
}

// kill ends a container's first process with SIGKILL. From inside, the kernel would not deliver it.
func (n *node) kill(ctx context.Context, c *envconf.Config, container corev1.ContainerStatus) (string, error) {
	_, id, _ := strings.Cut(container.ContainerID, "://")
	return run(ctx, c, n.pod, "node", "kill", id)
}

// look lists what is on the node.
func (n *node) look(ctx context.Context, c *envconf.Config) (string, error) {
	return run(ctx, c, n.pod, "node", "look")
}

// isAs waits until the node is as it was: what a pod had goes a moment after the pod.
func (n *node) isAs(ctx context.Context, c *envconf.Config, before string) error {
	var now string
	err := eventually(ctx, func(ctx context.Context) (_ bool, err error) {
		now, err = n.look(ctx, c)
		return now == before, err
	})
	if now != before {
		return fmt.Errorf("the node is not as before (-before +now):\n%s", cmp.Diff(strings.Split(before, "\n"), strings.Split(now, "\n")))
	}
	return err
}
