package cni

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

const manifests = "../../deploy/cni"

// documents are those of the manifests, by kind and name.
func documents(t *testing.T) map[string]object {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(manifests, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	all := make(map[string]object)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range strings.Split(string(b), "\n---\n") {
			var document object
			if err := yaml.UnmarshalStrict([]byte(text), &document); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			kind, _ := document["kind"].(string)
			name, _ := at(document, "metadata", "name").(string)
			if kind == "" || name == "" || document["apiVersion"] == nil {
				t.Fatalf("%s: not an object of Kubernetes: %s", file, text)
			}
			all[kind+" "+name] = document
		}
	}
	return all
}

// at is what is found by keys, one inside the other; nil if there is nothing.
func at(value any, keys ...string) any {
	for _, key := range keys {
		inside, ok := value.(object)
		if !ok {
			return nil
		}
		value = inside[key]
	}
	return value
}

// conflists are the networks of the manifests, and whether CHECK is disabled, which the binding bridge takes.
var conflists = map[string]bool{"podnic": true, "podnic-redirect": false}

// TestManifestsHoldTheSameNetworks compares the networks that TestConflistsOfTheManifests runs with those that users apply.
func TestManifestsHoldTheSameNetworks(t *testing.T) {
	for name, disabled := range conflists {
		t.Run(name, func(t *testing.T) { manifestsHold(t, name, disabled) })
	}
}

func manifestsHold(t *testing.T, network string, disabled bool) {
	b, err := os.ReadFile(filepath.Join(manifests, network+".conflist"))
	if err != nil {
		t.Fatal(err)
	}
	want := decoded(t, string(b))
	all := documents(t)
	for name, text := range map[string]any{
		"the ConfigMap":                   at(all["ConfigMap podnic-cni"], "data", network+".conflist"),
		"the NetworkAttachmentDefinition": at(all["NetworkAttachmentDefinition "+network], "spec", "config"),
	} {
		if diff := cmp.Diff(want, decoded(t, text)); diff != "" {
			t.Errorf("%s holds another network:\n%s", name, diff)
		}
	}
	list, err := libcni.NetworkConfFromBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	if last := list.Plugins[len(list.Plugins)-1].Network.Type; last != "podnic" || list.DisableCheck != disabled || list.Name != network {
		t.Errorf("podnic has to be the last plugin of %s, and not %s of %s; CHECK is disabled: %v", network, last, list.Name, list.DisableCheck)
	}
	// libcni 1.1 of containerd 1.6 and 1.7 refuses a newer one.
	if newer, err := version.GreaterThan(list.CNIVersion, "1.0.0"); err != nil || newer {
		t.Errorf("cniVersion %s: containerd 1 knows none after 1.0.0 (%v)", list.CNIVersion, err)
	}
}

func decoded(t *testing.T, text any) object {
	t.Helper()
	s, _ := text.(string)
	var o object
	if err := json.Unmarshal([]byte(s), &o); err != nil {
		t.Fatalf("%v: %s", err, s)
	}
	return o
}

// TestLauncherPodAsksForNoPrivilege looks at every container.
func TestLauncherPodAsksForNoPrivilege(t *testing.T) {
	pod := documents(t)["Pod vm-0"]
	if at(pod, "spec", "securityContext", "runAsNonRoot") != true {
		t.Error("the pod may run as root")
	}
	containers, _ := at(pod, "spec", "containers").([]any)
	if len(containers) == 0 {
		t.Fatal("the pod has no containers")
	}
	for _, c := range containers {
		want := object{"drop": []any{"ALL"}}
		context := at(c, "securityContext")
		if diff := cmp.Diff(want, at(context, "capabilities")); diff != "" || at(context, "allowPrivilegeEscalation") != false {
			t.Errorf("%v asks for privileges: %v", at(c, "name"), context)
		}
	}
}
