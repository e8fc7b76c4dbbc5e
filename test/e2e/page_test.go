//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"github.com/podnic/podnic/test/pages"
)

// serviceAddress is where a page has a Service.
var serviceAddress = regexp.MustCompile(`http://[0-9.]+/`)

// TestCommandsOfThePage runs those of docs/kubernetes.md in their order.
func TestCommandsOfThePage(t *testing.T) {
	blocks := blocksOf(t, "docs/kubernetes.md", "make e2e")
	blocks = slices.DeleteFunc(blocks, func(b pages.Block) bool { return !strings.Contains(b.Text, "kubectl") })
	if len(blocks) < 5 {
		t.Fatalf("the page has %d blocks for the suite", len(blocks))
	}
	reading(t, "page", func(ctx context.Context, c *envconf.Config, r *reader) { r.follow(ctx, blocks...) })
}

// TestCommandsOfOtherPages runs what README.md has for a cluster, and docs/trace.md for the pod that it makes.
func TestCommandsOfOtherPages(t *testing.T) {
	started, traced := blocksOf(t, "README.md", t.Name()), blocksOf(t, "docs/trace.md", t.Name())
	if len(started) != 1 || len(traced) != 1 || len(traced[0].Commands) != 1 {
		t.Fatalf("the pages have %d blocks and %d", len(started), len(traced))
	}
	reading(t, "others", func(ctx context.Context, c *envconf.Config, r *reader) {
		r.follow(ctx, started...)
		if said := r.shell(ctx, "kubectl exec vm -- podnic status"); !strings.Contains(said, "eth0: ready, the guest has ") {
			r.t.Errorf("podnic status draws\n%s", said)
		}
		r.trace(ctx, c, traced[0].Commands[0])
	})
}

// blocksOf are the blocks of a page that it leaves to somebody.
func blocksOf(t *testing.T, path, who string) []pages.Block {
	t.Helper()
	page, err := pages.Read(filepath.Join("../..", path))
	if err != nil {
		t.Fatal(err)
	}
	return page.RunBy(who)
}

// reader follows a page by kubectl, in a namespace of its own and at the top of the source.
type reader struct {
	t         *testing.T
	namespace string
	environ   []string
	// open has words of the page that are for a reader to fill in, each followed by what it is here.
	open []string
}

// reading has a reader do something.
func reading(t *testing.T, name string, do func(ctx context.Context, c *envconf.Config, r *reader)) {
	if _, err := exec.LookPath("kubectl"); err != nil {
		t.Skip("kubectl is not here, whose commands the page has")
	}
	r := &reader{namespace: suite.name + "-" + name}
	testenv.Test(t, features.New(name).Setup(func(ctx context.Context, t *testing.T, c *envconf.Config) context.Context {
		if err := createNamespace(ctx, c, r.namespace, "privileged"); err != nil {
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
		r.t, r.environ = t, append(os.Environ(), "KUBECONFIG="+config)
		r.open = []string{"deploy/launcher/", launchers(t) + "/"}
		r.shell(ctx, "kubectl config set-context --current --namespace "+r.namespace)
		do(ctx, c, r)
		return ctx
	}).Teardown(func(ctx context.Context, t *testing.T, c *envconf.Config) context.Context {
		if pods := (&corev1.PodList{}); t.Failed() && c.Client().Resources(r.namespace).List(ctx, pods) == nil {
			for _, p := range pods.Items {
				describe(ctx, t, c, &p)
			}
		}
		if err := deleteNamespace(ctx, c, r.namespace); err != nil {
			t.Error(err)
		}
		return ctx
	}).Feature())
}

// launchers is a copy of deploy/launcher with what a reader of the page would change here: where the tun device is that everybody
// may open, and what the images are called.
func launchers(t *testing.T) string {
	t.Helper()
	const from = "../../deploy/launcher"
	dir := t.TempDir()
	err := os.CopyFS(dir, os.DirFS(from))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"capabilities/pod.yaml", "base/pod.yaml"} {
		adapt(t, filepath.Join(from, file), filepath.Join(dir, file), "path: /dev/net/tun", "path: "+suite.node.tun,
			"localhost/podnic-launcher:dev", image("podnic-launcher"), "localhost/podnic-test:dev", image("podnic-test"))
	}
	return dir
}

// adapt copies a file with what is otherwise here.
func adapt(t *testing.T, from, to string, otherwise ...string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, []byte(strings.NewReplacer(otherwise...).Replace(string(text))), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (r *reader) command(ctx context.Context, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", "-ec", script+"\nwait")
	cmd.Dir, cmd.Env = "../..", r.environ
	return cmd
}

// shell is what a script says, which has to succeed.
func (r *reader) shell(ctx context.Context, script string) string {
	r.t.Helper()
	out, err := r.command(ctx, script).CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s: %v: %s", script, err, out)
	}
	return string(out)
}

// follow runs the commands of blocks.
func (r *reader) follow(ctx context.Context, blocks ...pages.Block) {
	r.t.Helper()
	for _, b := range blocks {
		for _, command := range b.Commands {
			script := strings.NewReplacer(append(r.open, "localhost/podnic-test:dev", image("podnic-test"))...).Replace(command.Text)
			if strings.Contains(script, "http://") { // the page's Service had another address
				script = serviceAddress.ReplaceAllString(script, "http://"+r.shell(ctx, "kubectl get service vm -o 'jsonpath={.spec.clusterIP}'")+"/")
			}
			said := r.shell(ctx, script)
			r.t.Logf("%s: %s\n%s", command.At, script, said)
			// What a log and another command say comes in any order.
			for _, line := range command.Prints {
				if pages.Unlike([]string{line}, said) != "" && !strings.Contains(script, "podnic status") {
					r.t.Errorf("%s: %s\nprints nothing like %q", command.At, command.Text, line)
				}
			}
		}
	}
}

// trace runs a command that ends in Wireshark, which takes a screen: tcpdump plays it, until it has seen two frames of DHCP.
func (r *reader) trace(ctx context.Context, c *envconf.Config, command pages.Command) {
	r.t.Helper()
	tcpdump, err := exec.LookPath("tcpdump")
	if err != nil {
		r.t.Fatalf("tcpdump is not here, which plays Wireshark: %v", err)
	}
	dir := r.t.TempDir()
	const reads = "#!/bin/sh\n[ \"$*\" = '-k -i -' ] && exec %s -n -c 2 -r - udp port 67\n"
	if err := os.WriteFile(filepath.Join(dir, "wireshark"), []byte(strings.Replace(reads, "%s", tcpdump, 1)), 0o755); err != nil {
		r.t.Fatal(err)
	}
	address := r.shell(ctx, "kubectl get pod vm -o 'jsonpath={.status.podIP}'")
	cmd := r.command(ctx, "PATH="+dir+":$PATH\n"+command.Text)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	// kubectl learns that nobody reads any more when there is more to write: the guest asks until it has ended.
	err = eventually(ctx, func(ctx context.Context) (bool, error) {
		select {
		case err := <-ended:
			return true, err
		default:
			_, err := inGuest(ctx, c, address, "udhcpc -f -q -n -t 1 -i eth0 -s /bin/true >/dev/null 2>&1 || true")
			return false, err
		}
	})
	if err != nil {
		_ = cmd.Process.Kill() // it may have ended, which is what failed
		r.t.Fatalf("%s: %s: %v: %s", command.At, command.Text, err, said.String())
	}
	r.t.Logf("%s: %s\n%s", command.At, command.Text, said.String())
	for _, part := range []string{"BOOTP/DHCP, Request", "BOOTP/DHCP, Reply"} {
		if !strings.Contains(said.String(), part) {
			r.t.Errorf("%s: nothing is %q in\n%s", command.At, part, said.String())
		}
	}
}
