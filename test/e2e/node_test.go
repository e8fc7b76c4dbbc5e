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

// tunResource is what deploy/launcher/restricted asks a device plugin for.
const tunResource = "squat.ai/tun"

// node is the one that the suite works on, by the pod that may do everything there.
type node struct {
	name string
	pod  *corev1.Pod
	// tun is a device on the node that any user may open.
	tun string
}

// startNode settles on a node and starts the suite's pod there (test/e2e/node).
func startNode(ctx context.Context, c *envconf.Config) (*node, error) {
	name, err := readyNode(ctx, c)
	if err != nil {
		return nil, err
	}
	directory := corev1.HostPathDirectory
	volume := func(name, path string) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &directory},
		}}
	}
	const plugins = "/var/lib/kubelet/device-plugins"
	root, yes := int64(0), true
	command := []string{"node", "serve", tunResource}
	volumes := []corev1.Volume{volume("dev", "/dev"), volume("plugins", plugins)}
	mounts := []corev1.VolumeMount{{Name: "dev", MountPath: "/node/dev"}, {Name: "plugins", MountPath: plugins}}
	for _, v := range variants {
		if v.name != restricted {
			continue
		}
		conf := setting("CNI_CONF_DIR", "/etc/cni/net.d")
		command = append(command, v.namespace(), conf)
		volumes = append(volumes, volume("cni-conf", conf), volume("cni-bin", setting("CNI_BIN_DIR", "/opt/cni/bin")))
		mounts = append(mounts, corev1.VolumeMount{Name: "cni-conf", MountPath: "/node/cni/conf"}, corev1.VolumeMount{Name: "cni-bin", MountPath: "/node/cni/bin"})
	}
	n := &node{name: name, pod: &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "node", Namespace: suite.name},
		Spec: corev1.PodSpec{
			NodeName: name, HostPID: true, HostNetwork: true,
			Containers: []corev1.Container{{
				Name: "node", Image: image("podnic-test"), ImagePullPolicy: corev1.PullIfNotPresent,
				Command:         command,
				SecurityContext: &corev1.SecurityContext{Privileged: &yes, RunAsUser: &root},
				VolumeMounts:    mounts,
			}},
			Volumes: volumes,
		},
	}}
	if err := c.Client().Resources().Create(ctx, n.pod); err != nil {
		return nil, err
	}
	return n, eventually(ctx, func(ctx context.Context) (bool, error) {
		if err := c.Client().Resources().Get(ctx, n.pod.Name, n.pod.Namespace, n.pod); err != nil || n.pod.Status.Phase == corev1.PodPending {
			return false, err
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
		err = c.Client().Resources().Get(ctx, name, "", on)
		offered := on.Status.Allocatable[tunResource]
		return !offered.IsZero(), err
	})
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
