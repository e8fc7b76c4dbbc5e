//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/e2e-framework/klient/k8s/resources"
	"sigs.k8s.io/e2e-framework/klient/wait/conditions"
	"sigs.k8s.io/e2e-framework/pkg/envconf"

	"github.com/podnic/podnic/test/pages"
)

// own skips a test that makes what is in no namespace, where the cluster is not the suite's alone.
func own(t *testing.T) {
	t.Helper()
	if os.Getenv("CLUSTER") != "own" {
		t.Skip("what it makes is in no namespace of the suite's: CLUSTER=own says that the cluster is for the suite alone")
	}
}

// TestPluginIsInstalledAndRemoved follows docs/cni.md: the plugin comes to the nodes with a network that the pods of a runtime
// class alone have, wires such a pod, and goes. The node's container runtime has been told of the class.
func TestPluginIsInstalledAndRemoved(t *testing.T) {
	own(t)
	i := slices.IndexFunc(variants, func(v variant) bool { return v.name == restricted })
	if i < 0 {
		t.Skipf("VARIANTS leaves out %s, whose pods have the class", restricted)
	}
	page, err := pages.Read("../../docs/cni.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks, onTheNode := page.RunBy(t.Name()), page.Unmarked()
	if len(blocks) != 2 || len(onTheNode) != 1 {
		t.Fatalf("the page has %d blocks for the cluster and %d for the node", len(blocks), len(onTheNode))
	}
	reading(t, "class", func(ctx context.Context, c *envconf.Config, r *reader) {
		bin := setting("CNI_BIN_DIR", "/opt/cni/bin")
		install := filepath.Join(r.t.TempDir(), "install.yaml")
		adapt(r.t, "../../deploy/cni/install.yaml", install, "/opt/cni/bin", bin, "localhost/podnic:dev", image("podnic"))
		r.open = append(r.open, "deploy/cni/install.yaml", install)
		r.t.Cleanup(func() {
			ctx := context.WithoutCancel(ctx)
			r.follow(ctx, blocks[1])
			r.untilNoPods(ctx, c, "kube-system", "app.kubernetes.io/name=podnic-cni")
			r.forget(ctx, c, onTheNode[0], bin)
		})
		r.follow(ctx, blocks[0])
		// With its clean-up before the uninstallation, as the page has it.
		if !r.t.Run("a pod of the class", func(t *testing.T) {
			class := "podnic"
			l := variants[i].start(ctx, t, c, "class", func(l *launcher) { l.pod.Spec.RuntimeClassName = &class })
			l.untilReady(ctx, t, c)
			if network := subnet(t); !network.Contains(netip.MustParseAddr(l.pod.Status.PodIP)) {
				t.Errorf("the pod has %s, which is not of the manifest's network, %s", l.pod.Status.PodIP, network)
			}
			if err := hello(ctx, c, l.pod.Status.PodIP); err != nil {
				t.Errorf("the other pod does not reach the guest: %v", err)
			}
			l.checkPrivileges(ctx, t, c)
		}) {
			r.t.Log("has the container runtime been told of the class, as docs/cni.md says?")
		}
	})
}

// subnet is where the addresses of the manifest's network are from.
func subnet(t *testing.T) netip.Prefix {
	t.Helper()
	text, err := os.ReadFile("../../deploy/cni/podnic.conflist")
	var list struct {
		Plugins []struct {
			IPAM struct {
				Ranges [][]struct{ Subnet netip.Prefix }
			}
		}
	}
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil {
		t.Fatal(err)
	}
	return list.Plugins[0].IPAM.Ranges[0][0].Subnet
}

// untilNoPods waits until pods are gone, as their DaemonSet is before them.
func (r *reader) untilNoPods(ctx context.Context, c *envconf.Config, namespace, label string) {
	r.t.Helper()
	err := eventually(ctx, func(ctx context.Context) (bool, error) {
		pods := &corev1.PodList{}
		err := c.Client().Resources(namespace).List(ctx, pods, resources.WithLabelSelector(label))
		return err == nil && len(pods.Items) == 0, err
	})
	if err != nil {
		r.t.Errorf("pods with the label %s: %v", label, err)
	}
}

// forget runs on the node what the page has for it. The network's directory stays: the container runtime watches it for as long
// as it knows the class. What goes too is the list of addresses, which is the main plugin's.
func (r *reader) forget(ctx context.Context, c *envconf.Config, block pages.Block, bin string) {
	r.t.Helper()
	root, directory := int64(0), corev1.HostPathDirectory
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "root", Namespace: r.namespace},
		Spec: corev1.PodSpec{
			NodeName: suite.node.name,
			Containers: []corev1.Container{{
				Name: "root", Image: image("podnic-test"), ImagePullPolicy: corev1.PullNever,
				Command:         []string{"sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done"},
				SecurityContext: &corev1.SecurityContext{RunAsUser: &root},
				VolumeMounts:    []corev1.VolumeMount{{Name: "root", MountPath: "/node"}},
			}},
			Volumes: []corev1.Volume{{Name: "root", VolumeSource: corev1.VolumeSource{
				HostPath: &corev1.HostPathVolumeSource{Path: "/", Type: &directory},
			}}},
		},
	}
	resources := c.Client().Resources()
	err := resources.Create(ctx, pod)
	if err == nil {
		err = eventually(ctx, conditions.New(resources).PodReady(pod))
	}
	if err != nil {
		r.t.Errorf("a pod with the node's files: %v", err)
		return
	}
	fill := strings.NewReplacer("/opt/cni/bin", bin, "rmdir /etc/cni/podnic.d", "rmdir")
	script := ""
	for _, command := range block.Commands {
		script += fill.Replace(command.Text) + "\n"
	}
	script += "rm -rf /var/lib/cni/networks/podnic\nls -d " + bin + "/podnic /etc/cni/podnic.d/*.conflist /run/podnic/cni 2>/dev/null || true"
	left, err := run(ctx, c, pod, "chroot", "/node", "sh", "-c", script)
	if err != nil || left != "" {
		r.t.Errorf("%s\nleaves on the node: %s, %v", script, left, err)
	}
}
