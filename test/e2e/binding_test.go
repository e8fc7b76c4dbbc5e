//go:build e2e

package e2e

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/yaml"

	"github.com/podnic/podnic/test/pages"
)

// TestBindingIsRegistered runs what docs/kubevirt.md has for a cluster with KubeVirt. No KubeVirt acts on it: an API server takes
// what the page gives it, whole, keeps what was there, and has that alone in the end. Where the cluster has the types of KubeVirt
// and Multus, they are what it is held to.
func TestBindingIsRegistered(t *testing.T) {
	own(t)
	page, err := pages.Read("../../docs/kubevirt.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := page.RunBy(t.Name())
	if len(blocks) != 2 {
		t.Fatalf("the page has %d blocks", len(blocks))
	}
	reading(t, "binding", func(ctx context.Context, c *envconf.Config, r *reader) {
		if strings.TrimSpace(r.shell(ctx, "kubectl get namespace kubevirt --ignore-not-found")) != "" {
			r.t.Skip("there is a namespace kubevirt, which is not the suite's")
		}
		const types, registry = "test/e2e/testdata/kubevirt-types.yaml", "test/e2e/testdata/kubevirt.yaml"
		const names = "kubevirts.kubevirt.io network-attachment-definitions.k8s.cni.cncf.io"
		cleanUp := func(script string) {
			r.t.Cleanup(func() { r.shell(context.WithoutCancel(ctx), script) })
		}
		if said := r.shell(ctx, "kubectl get --ignore-not-found --output name customresourcedefinitions "+names); said == "" {
			cleanUp("kubectl delete --ignore-not-found --filename " + types)
			r.shell(ctx, "kubectl create --filename "+types+"\nkubectl wait --for=condition=Established --timeout=180s customresourcedefinitions "+names)
		} else {
			r.t.Logf("the cluster has\n%s", said)
		}
		cleanUp("kubectl delete --ignore-not-found --filename " + registry)
		r.shell(ctx, "kubectl create --filename "+registry)
		cleanUp("kubectl delete --ignore-not-found --filename deploy/kubevirt/network-attachment-definition.yaml")
		r.follow(ctx, blocks[0])

		registered := func() any {
			return object(r.t, r.shell(ctx, "kubectl get --namespace kubevirt --output yaml kubevirt kubevirt"))["spec"]
		}
		before, want := object(r.t, read(r.t, "testdata/kubevirt.yaml", 1)), object(r.t, read(r.t, "testdata/kubevirt.yaml", 1))
		binding := object(r.t, read(r.t, "../../deploy/kubevirt/binding.yaml", 0))
		bindings(want)["podnic"] = bindings(binding)["podnic"]
		if diff := cmp.Diff(want["spec"], registered()); diff != "" {
			r.t.Errorf("the KubeVirt resource (-want +got):\n%s", diff)
		}
		attachment := object(r.t, read(r.t, "../../deploy/kubevirt/network-attachment-definition.yaml", 0))
		got := object(r.t, r.shell(ctx, "kubectl get --namespace default --output yaml network-attachment-definition podnic-binding"))
		if diff := cmp.Diff(attachment["spec"], got["spec"]); diff != "" {
			r.t.Errorf("the network attachment definition (-want +got):\n%s", diff)
		}
		r.follow(ctx, blocks[1])
		if diff := cmp.Diff(before["spec"], registered()); diff != "" {
			r.t.Errorf("the KubeVirt resource after all (-want +got):\n%s", diff)
		}
		if left := r.shell(ctx, "kubectl get --namespace default --ignore-not-found network-attachment-definition podnic-binding"); left != "" {
			r.t.Errorf("the network attachment definition is still there: %s", left)
		}
	})
}

// read is a document of a file.
func read(t *testing.T, path string, number int) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(text), "\n---\n")[number]
}

func object(t *testing.T, text string) (o map[string]any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(text), &o); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return o
}

// bindings are those of a KubeVirt resource.
func bindings(kubeVirt map[string]any) map[string]any {
	at := kubeVirt
	for _, key := range []string{"spec", "configuration", "network", "binding"} {
		at, _ = at[key].(map[string]any)
	}
	return at
}
