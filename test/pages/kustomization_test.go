package pages

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// TestKustomizationOfThePageIsAGuestOfItsOwn builds what docs/kubernetes.md has for a guest of one's own, twice with other names:
// no Service finds the other's pod.
func TestKustomizationOfThePageIsAGuestOfItsOwn(t *testing.T) {
	t.Parallel()
	page, err := Read("../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	disk := inMemory(t)
	for _, name := range []string{"web", "db"} {
		text := block(t, page, "# kustomization.yaml")
		for from, to := range map[string]string{
			"github.com/podnic/podnic//deploy/launcher/capabilities": "../launcher/capabilities",
			"namePrefix: web-": "namePrefix: " + name + "-", "instance: web": "instance: " + name,
		} {
			if !strings.Contains(text, from) {
				t.Fatalf("the page's kustomization has no %q", from)
			}
			text = strings.Replace(text, from, to, 1)
		}
		for file, content := range map[string]string{
			"kustomization.yaml": text, "domain.xml": "<domain/>",
			"disk.yaml": "apiVersion: v1\nkind: Pod\nmetadata:\n  name: vm\nspec:\n  volumes:\n  - name: vm\n    emptyDir: null\n    persistentVolumeClaim: {claimName: disk}\n",
		} {
			if err := disk.WriteFile(filepath.Join("/", name, file), []byte(content)); err != nil {
				t.Fatal(err)
			}
		}
	}
	labels, selects := make(map[string]map[string]string), make(map[string]map[string]string)
	for _, name := range []string{"web", "db"} {
		built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(disk, "/"+name)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range built.Resources() {
			if r.GetName() != name+"-vm" {
				t.Errorf("%s is called %s", r.GetKind(), r.GetName())
			}
			object, err := r.Map()
			if err != nil {
				t.Fatal(err)
			}
			switch r.GetKind() {
			case "Pod":
				labels[name] = r.GetLabels()
				if text := r.MustYaml(); !strings.Contains(text, "claimName: disk") || !strings.Contains(text, "image: registry.example/vm/podnic-launcher:1") {
					t.Errorf("the pod lacks the disk, or has another image:\n%s", text)
				}
			case "Service":
				selects[name] = make(map[string]string)
				for key, value := range object["spec"].(map[string]any)["selector"].(map[string]any) {
					selects[name][key] = value.(string)
				}
			}
		}
	}
	for service, selector := range selects {
		for pod, has := range labels {
			all := true
			for key, value := range selector {
				all = all && has[key] == value
			}
			if all != (service == pod) {
				t.Errorf("the Service of %s finds the pod of %s: %v", service, pod, all)
			}
		}
	}
	if len(selects) != 2 || len(labels) != 2 {
		t.Errorf("there are the Services of %v and the pods of %v", selects, labels)
	}
}

// inMemory has deploy/launcher.
func inMemory(t *testing.T) filesys.FileSystem {
	t.Helper()
	disk := filesys.MakeFsInMemory()
	err := filepath.WalkDir("../../deploy/launcher", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return disk.WriteFile(filepath.Join("/", strings.TrimPrefix(path, "../../deploy")), text)
	})
	if err != nil {
		t.Fatal(err)
	}
	return disk
}
