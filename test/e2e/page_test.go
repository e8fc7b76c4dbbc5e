//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"github.com/podnic/podnic/test/pages"
)

// serviceAddress is where a page has a Service.
var serviceAddress = regexp.MustCompile(`http://[0-9.]+/`)

// TestCommandsOfThePage runs those of docs/kubernetes.md in their order, by kubectl and in a namespace of their own.
func TestCommandsOfThePage(t *testing.T) {
	if _, err := exec.LookPath("kubectl"); err != nil {
		t.Skip("kubectl is not here, whose commands docs/kubernetes.md has")
	}
	page, err := pages.Read("../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := slices.DeleteFunc(page.RunBy("make e2e"), func(b pages.Block) bool { return !strings.Contains(b.Text, "kubectl") })
	if len(blocks) < 5 {
		t.Fatalf("the page has %d blocks for the suite", len(blocks))
	}
	namespace := suite.name + "-page"
	testenv.Test(t, features.New("the page").Setup(func(ctx context.Context, t *testing.T, c *envconf.Config) context.Context {
		if err := createNamespace(ctx, c, namespace, "privileged"); err != nil {
			t.Fatal(err)
		}
		return ctx
	}).Assess("its commands", func(ctx context.Context, t *testing.T, c *envconf.Config) context.Context {
		config := filepath.Join(t.TempDir(), "config")
		text, err := os.ReadFile(c.KubeconfigFile())
		if err == nil {
			err = os.WriteFile(config, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		shell := func(script string) string {
			cmd := exec.CommandContext(ctx, "sh", "-ec", script+"\nwait")
			cmd.Dir, cmd.Env = "../..", append(os.Environ(), "KUBECONFIG="+config)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v: %s", script, err, out)
			}
			return string(out)
		}
		shell("kubectl config set-context --current --namespace " + namespace)
		for _, b := range blocks {
			for _, command := range b.Commands {
				script := command.Text
				if strings.Contains(script, "http://") { // the page's Service had another address
					script = serviceAddress.ReplaceAllString(script, "http://"+shell("kubectl get service vm -o 'jsonpath={.spec.clusterIP}'")+"/")
				}
				said := shell(script)
				t.Logf("%s: %s\n%s", command.At, script, said)
				// What a log and another command say comes in any order.
				for _, line := range command.Prints {
					if pages.Unlike([]string{line}, said) != "" && !strings.Contains(script, "podnic status") {
						t.Errorf("%s: %s\nprints nothing like %q", command.At, command.Text, line)
					}
				}
			}
		}
		return ctx
	}).Teardown(func(ctx context.Context, t *testing.T, c *envconf.Config) context.Context {
		if err := deleteNamespace(ctx, c, namespace); err != nil {
			t.Error(err)
		}
		return ctx
	}).Feature())
}
