//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/e2e-framework/klient/k8s/resources"
	"sigs.k8s.io/e2e-framework/pkg/envconf"

	"github.com/podnic/podnic/test/e2e/leftover"
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

// look lists what is on the node that is not another's.
func (n *node) look(ctx context.Context, c *envconf.Config) (string, error) {
	others, err := n.others(ctx, c)
	if err != nil {
		return "", err
	}
	return run(ctx, c, n.pod, append([]string{"node", "look"}, others...)...)
}

// configHash is the annotation of a pod that a kubelet has from a file, by which and not by its object's UID its control group
// is called.
const configHash = "kubernetes.io/config.hash"

// others are the UIDs of the node's pods that are none of the suite's.
func (n *node) others(ctx context.Context, c *envconf.Config) ([]string, error) {
	own := []string{suite.name}
	for _, v := range everyVariant() {
		own = append(own, v.namespace())
	}
	pods := &corev1.PodList{}
	err := c.Client().Resources().List(ctx, pods, resources.WithFieldSelector("spec.nodeName="+n.name))
	if err != nil {
		return nil, fmt.Errorf("list the pods of %s: %w", n.name, err)
	}
	var others []string
	for _, p := range pods.Items {
		if slices.Contains(own, p.Namespace) {
			continue
		}
		others = append(others, string(p.UID))
		if hash := p.Annotations[configHash]; hash != "" {
			others = append(others, hash)
		}
	}
	return others, nil
}

// left waits until no more is on the node than before: what a pod had goes a moment after the pod.
func (n *node) left(ctx context.Context, c *envconf.Config, before string) error {
	return leftover.Wait(ctx, before, func(ctx context.Context) (string, error) { return n.look(ctx, c) }, eventually)
}
