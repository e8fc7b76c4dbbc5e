//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/e2e-framework/klient/decoder"
	"sigs.k8s.io/e2e-framework/klient/k8s"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// variant is one of deploy/launcher.
type variant struct {
	// name is the directory's, level what a namespace may enforce where the variant's pods run.
	name, level string
}

// restricted is the variant that needs podnic's CNI plugin.
const restricted = "restricted"

// variants are those that go through the same scenarios. Where guest and containers share the address, a pod has further ones.
var (
	variants = chosen(variant{"capabilities", "privileged"}, variant{restricted, "restricted"})
	shared   = chosen(variant{"shared", "privileged"})
)

// chosen are those that the environment's VARIANTS lists, by default all.
func chosen(of ...variant) []variant {
	wanted := strings.Fields(os.Getenv("VARIANTS"))
	return slices.DeleteFunc(of, func(v variant) bool { return len(wanted) > 0 && !slices.Contains(wanted, v.name) })
}

// everyVariant are the variants that run.
func everyVariant() []variant { return slices.Concat(variants, shared) }

func (v variant) namespace() string { return suite.name + "-" + v.name }

// appLabel is what the manifests' Service selects by.
const appLabel = "app.kubernetes.io/name"

// launcher is a pod with a guest, and what belongs to it.
type launcher struct {
	variant
	pod     *corev1.Pod
	service *corev1.Service
	domain  *corev1.ConfigMap
}

// read takes a launcher from the manifests as a user would, and gives it a name of its own.
func (v variant) read(name string) (*launcher, error) {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).
		Run(filesys.MakeFsOnDisk(), filepath.Join("..", "..", "deploy", "launcher", v.name))
	if err != nil {
		return nil, err
	}
	l := &launcher{variant: v}
	for _, r := range built.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			return nil, err
		}
		obj, err := decoder.DecodeAny(bytes.NewReader(text), decoder.MutateNamespace(v.namespace()))
		if err != nil {
			return nil, err
		}
		switch o := obj.(type) {
		case *corev1.Pod:
			l.pod = o
		case *corev1.Service:
			l.service = o
		case *corev1.ConfigMap:
			l.domain = o
		default:
			return nil, fmt.Errorf("deploy/launcher/%s has a %T, which the suite does not know", v.name, o)
		}
	}
	l.rename(name)
	l.adapt()
	return l, nil
}

// rename gives the launcher a name of its own.
func (l *launcher) rename(name string) {
	l.pod.Name, l.service.Name, l.domain.Name = name, name, name
	l.pod.Labels[appLabel], l.service.Spec.Selector[appLabel] = name, name
	for _, volume := range l.pod.Spec.Volumes {
		if volume.Name == "domain" {
			volume.ConfigMap.Name = name
		}
	}
}

// adapt puts in what the suite has on its node: images that are there, the tun device, and a network that wires the pods of
// the namespace whatever their runtime class.
func (l *launcher) adapt() {
	l.pod.Spec.NodeName, l.pod.Spec.RuntimeClassName = suite.node.name, nil
	for _, list := range [][]corev1.Container{l.pod.Spec.InitContainers, l.pod.Spec.Containers} {
		for i := range list {
			base, _, _ := strings.Cut(list[i].Image[strings.LastIndex(list[i].Image, "/")+1:], ":")
			list[i].Image, list[i].ImagePullPolicy = image(base), corev1.PullNever
			if count, asked := list[i].Resources.Limits[manifestsTun]; asked {
				delete(list[i].Resources.Limits, manifestsTun)
				list[i].Resources.Limits[tunResource] = count
			}
		}
	}
	for _, volume := range l.pod.Spec.Volumes {
		if volume.Name == "tun" {
			volume.HostPath.Path = suite.node.tun
		}
	}
}

// arguments adds to the command line of the guest's kernel.
func (l *launcher) arguments(more string) {
	const end = "</cmdline>"
	for file, text := range l.domain.Data {
		l.domain.Data[file] = strings.Replace(text, end, " "+more+end, 1)
	}
}

// withoutVolume takes a volume from the pod: its content goes with the container.
func (l *launcher) withoutVolume(name string) {
	keep := l.pod.Spec.Volumes[:0]
	for _, v := range l.pod.Spec.Volumes {
		if v.Name != name {
			keep = append(keep, v)
		}
	}
	l.pod.Spec.Volumes = keep
	mounts := l.pod.Spec.Containers[0].VolumeMounts
	kept := mounts[:0]
	for _, m := range mounts {
		if m.Name != name {
			kept = append(kept, m)
		}
	}
	l.pod.Spec.Containers[0].VolumeMounts = kept
}

// start creates a launcher, and removes it when the test ends.
func (v variant) start(ctx context.Context, t *testing.T, c *envconf.Config, name string, change func(*launcher)) *launcher {
	t.Helper()
	l, err := v.read(name)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(l)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(ctx)
		if t.Failed() {
			describe(ctx, t, c, l.pod)
		}
		for _, obj := range []k8s.Object{l.pod, l.service, l.domain} {
			if err := remove(ctx, c, obj); err != nil {
				t.Errorf("remove the launcher %s: %v", name, err)
			}
		}
	})
	for _, obj := range []k8s.Object{l.domain, l.service, l.pod} {
		if err := c.Client().Resources().Create(ctx, obj); err != nil {
			t.Fatalf("create the launcher %s: %v", name, err)
		}
	}
	return l
}

// until waits for a state of the pod.
func (l *launcher) until(ctx context.Context, t *testing.T, c *envconf.Config, state string, reached func(*corev1.Pod) bool) {
	t.Helper()
	err := eventually(ctx, func(ctx context.Context) (bool, error) {
		err := c.Client().Resources().Get(ctx, l.pod.Name, l.pod.Namespace, l.pod)
		return err == nil && reached(l.pod), err
	})
	if err != nil {
		t.Fatalf("the launcher %s is not %s: %v", l.pod.Name, state, err)
	}
}

func (l *launcher) untilReady(ctx context.Context, t *testing.T, c *envconf.Config) {
	t.Helper()
	l.until(ctx, t, c, "ready", func(pod *corev1.Pod) bool { return readySince(pod) != nil })
}

// readySince is when the pod became ready; nil if it is not.
func readySince(pod *corev1.Pod) *time.Time {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return &c.LastTransitionTime.Time
		}
	}
	return nil
}

// ended is how the launcher's container has ended; nil if it has not.
func ended(pod *corev1.Pod) *corev1.ContainerStateTerminated {
	if len(pod.Status.ContainerStatuses) == 0 {
		return nil
	}
	return pod.Status.ContainerStatuses[0].State.Terminated
}

// report is what the suite reads of `podnic status -o json`.
type report struct {
	Phase      string `json:"phase"`
	Interfaces []struct {
		MAC       string   `json:"mac"`
		Addresses []string `json:"addresses"`
		Lease     struct {
			State   string    `json:"state"`
			Address string    `json:"address"`
			Since   time.Time `json:"since"`
		} `json:"lease"`
		Warnings []string `json:"warnings"`
	} `json:"interfaces"`
}

func (l *launcher) status(ctx context.Context, t *testing.T, c *envconf.Config) report {
	t.Helper()
	var r report
	out, err := run(ctx, c, l.pod, "podnic", "status", "-o", "json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &r)
	}
	if err == nil && len(r.Interfaces) != 1 {
		err = fmt.Errorf("status has %d interfaces: %s", len(r.Interfaces), out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}
