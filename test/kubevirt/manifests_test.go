package kubevirt

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// manifest reads a manifest that users apply.
func manifest(t *testing.T, name string, into any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../deploy/kubevirt", name))
	if err == nil {
		err = yaml.Unmarshal(b, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestManifestsAgree checks that the example machine has the binding that is registered, and that the registration names
// the network attachment that is made.
func TestManifestsAgree(t *testing.T) {
	var kubevirt struct {
		Spec struct {
			Configuration struct {
				Network struct {
					Binding map[string]struct{ SidecarImage, NetworkAttachmentDefinition, DomainAttachmentType string }
				}
			}
		}
	}
	var attachment struct {
		Metadata struct{ Name, Namespace string }
		Spec     struct{ Config string }
	}
	var machine struct {
		Spec struct {
			Domain struct {
				Devices struct {
					Interfaces []struct {
						Name    string
						Binding struct{ Name string }
					}
				}
			}
			Networks []struct{ Name string }
		}
	}
	manifest(t, "binding.yaml", &kubevirt)
	manifest(t, "network-attachment-definition.yaml", &attachment)
	manifest(t, "vmi.yaml", &machine)

	interfaces := machine.Spec.Domain.Devices.Interfaces
	if len(interfaces) != 1 || len(machine.Spec.Networks) != 1 || interfaces[0].Name != machine.Spec.Networks[0].Name {
		t.Fatalf("the machine has the interfaces %v and the networks %v", interfaces, machine.Spec.Networks)
	}
	binding, registered := kubevirt.Spec.Configuration.Network.Binding[interfaces[0].Binding.Name]
	if !registered || binding.DomainAttachmentType != "managedTap" || !strings.Contains(binding.SidecarImage, "podnic-sidecar") {
		t.Errorf("the machine's binding %s is registered as %+v", interfaces[0].Binding.Name, binding)
	}
	if want := attachment.Metadata.Namespace + "/" + attachment.Metadata.Name; binding.NetworkAttachmentDefinition != want {
		t.Errorf("the binding names the attachment %s, and there is %s", binding.NetworkAttachmentDefinition, want)
	}
	var config struct{ CNIVersion, Type, Binding string }
	if err := json.Unmarshal([]byte(attachment.Spec.Config), &config); err != nil {
		t.Fatal(err)
	}
	if config.Type != "podnic" || config.Binding != binding.DomainAttachmentType || config.CNIVersion == "" {
		t.Errorf("the attachment is %+v", config)
	}
}
