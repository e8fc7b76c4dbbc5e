package scripts

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const kindScript = "../../scripts/kind.sh"

// another is for an event: somebody else makes a cluster of the name that the script's has.
const another = `(mkdir -p "$STATE/containers/theirs"; cd "$STATE/containers/theirs"; echo podnic-e2e >cluster; echo /elsewhere >mounted)`

// clusters are the containers that the engine has, by their clusters' names.
func (s *script) clusters() []string {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.state, "containers", "*", "cluster"))
	if err != nil {
		s.t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		name, err := os.ReadFile(file)
		if err != nil {
			s.t.Fatal(err)
		}
		owner := "ours"
		if filepath.Base(filepath.Dir(file)) == "theirs" {
			owner = "theirs"
		}
		names = append(names, strings.TrimSpace(string(name))+" is "+owner)
	}
	slices.Sort(names)
	return names
}

func TestKindClusterIsMadeUsedAndDeleted(t *testing.T) {
	t.Parallel()
	s := newScript(t, kindScript, "kind", nil)
	s.cmd.Env = append(s.cmd.Env, "KIND_IMAGE=kindest/node:v1.34.4")
	s.start()
	s.end(0, "a kubeconfig of podnic-e2e", "the cluster podnic-e2e is deleted")
	var steps []string
	for _, call := range s.calls() {
		words := strings.Fields(call)
		steps = append(steps, strings.Join(words[:min(len(words), 2)], " "))
	}
	want := []string{
		"docker -v", "docker info", "kind get", "make images", "kind create", "docker run",
		"kind load", "kind load", "kind load", "kind load", "make e2e",
		"docker ps", "docker inspect", "docker rm", "docker volume", "docker volume",
	}
	if diff := cmp.Diff(want, steps); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	create := s.calls()[slices.Index(steps, "kind create")]
	if !strings.HasSuffix(create, "--image kindest/node:v1.34.4") {
		t.Errorf("the node's image is not the one of KIND_IMAGE: %s", create)
	}
	s.nothingIsLeft()
}

// TestKindEndsAndLeavesOnlyWhatIsNotItsOwn is what becomes of clusters and files when something is in the way.
func TestKindEndsAndLeavesOnlyWhatIsNotItsOwn(t *testing.T) {
	for _, test := range []struct {
		name     string
		on       map[string]string
		env      string
		there    string // a cluster that is there before
		status   int
		says     []string
		not      string // a call that is not made
		clusters []string
	}{
		{
			name: "the engine is down", on: map[string]string{"docker-info": "echo 'Cannot connect to the Docker daemon' >&2; exit 1"},
			status: 1, says: []string{"docker does not work here: Cannot connect to the Docker daemon"}, not: "make images",
		},
		{
			name: "kind fails", on: map[string]string{"kind-get-clusters": "echo 'no idea' >&2; exit 1"},
			status: 1, says: []string{"no idea", "kind does not list its clusters"}, not: "make images",
		},
		{
			name: "no name for a cluster", env: "KIND_CLUSTER=podnic/e2e",
			status: 1, says: []string{"KIND_CLUSTER=podnic/e2e"}, not: "make images",
		},
		{
			name: "the name is taken", there: "podnic-e2e",
			status: 1, says: []string{"a cluster called podnic-e2e exists"}, not: "make images",
			clusters: []string{"podnic-e2e is theirs"},
		},
		{
			name: "a name that only looks alike is taken", there: "podnicxe2e", env: "KIND_CLUSTER=podnic.e2e",
			status: 0, clusters: []string{"podnicxe2e is theirs"},
		},
		{
			name: "another makes it during the build", on: map[string]string{"make-images": another},
			status: 1, says: []string{"already exist"}, not: "make e2e", clusters: []string{"podnic-e2e is theirs"},
		},
		{
			name: "another makes it at the same time", on: map[string]string{"docker-run": another + "; exit 125"},
			status: 1, not: "make e2e", clusters: []string{"podnic-e2e is theirs"},
		},
		{
			name: "another has a node of that name as well", on: map[string]string{"kind-created": another},
			status: 0, clusters: []string{"podnic-e2e is theirs"},
		},
		{
			name: "the node does not start", on: map[string]string{"kind-created": "exit 4"},
			status: 4, says: []string{"logs are in"}, not: "make e2e",
		},
		{
			name: "a test fails", on: map[string]string{"make-e2e": "exit 2"},
			status: 2, says: []string{"logs are in", "the cluster podnic-e2e is deleted"},
		},
		{
			name: "it is kept", env: "KEEP=1", says: []string{"the cluster podnic-e2e stays: export KUBECONFIG="},
			clusters: []string{"podnic-e2e is ours"},
		},
		{
			name: "it is kept after a failure", env: "KEEP=1", on: map[string]string{"make-e2e": "exit 2"},
			status: 2, says: []string{"logs are in", "the cluster podnic-e2e stays"}, clusters: []string{"podnic-e2e is ours"},
		},
		{
			name: "it cannot be deleted", on: map[string]string{"docker-rm": "exit 1"},
			status: 1, says: []string{"the cluster podnic-e2e could not be deleted"}, clusters: []string{"podnic-e2e is ours"},
		},
		{
			name: "the engine dies meanwhile", on: map[string]string{"docker-ps": "exit 1"},
			status: 1, says: []string{"docker does not list its containers"}, clusters: []string{"podnic-e2e is ours"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newScript(t, kindScript, "kind", test.on)
			s.cmd.Env = append(s.cmd.Env, test.env)
			if test.there != "" {
				s.write("containers/theirs/cluster", test.there+"\n")
				s.write("containers/theirs/mounted", "/elsewhere\n")
			}
			s.start()
			s.end(test.status, test.says...)
			if test.not != "" && s.called(test.not) {
				t.Errorf("%s was called", test.not)
			}
			if diff := cmp.Diff(test.clusters, s.clusters()); diff != "" {
				t.Errorf("clusters (-want +got):\n%s", diff)
			}
			ours := slices.Contains(test.clusters, "podnic-e2e is ours")
			if left := s.left(); (len(left) > 0) != ours {
				t.Errorf("temporary files: %v", left)
			}
			if strings.Contains(test.env, "KEEP") {
				_, after, _ := strings.Cut(s.out.String(), "export KUBECONFIG=")
				file, _, _ := strings.Cut(after, ";")
				if text, err := os.ReadFile(file); err != nil || string(text) != "a kubeconfig of podnic-e2e\n" {
					t.Errorf("the file that it names for KUBECONFIG: %v: %q", err, text)
				}
			}
			if _, err := os.Stat(filepath.Join(s.state, "cache", "kind", "podnic-e2e", "kubelet.log")); (err == nil) != strings.Contains(s.out.String(), "logs are in") {
				t.Errorf("the node's logs: %v", err)
			}
		})
	}
}

// TestKindSignalsLeaveNothing ends the script at each of its steps.
func TestKindSignalsLeaveNothing(t *testing.T) {
	for signal, status := range map[syscall.Signal]int{syscall.SIGHUP: 129, syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		for _, event := range []string{"make-images", "kind-load-image-archive", "kind-created", "make-e2e"} {
			t.Run(signal.String()+" at "+event, func(t *testing.T) {
				t.Parallel()
				s := newScript(t, kindScript, "kind", map[string]string{event: reach})
				s.start()
				s.untilReached()
				s.signal(signal)
				s.end(status)
				s.nothingIsLeft()
			})
		}
	}
	t.Run("a second one during the clean-up", func(t *testing.T) {
		t.Parallel()
		s := newScript(t, kindScript, "kind", map[string]string{"make-e2e": reach, "docker-rm": pause})
		s.start()
		s.untilReached()
		s.signal(syscall.SIGINT)
		s.untilReached()
		s.signal(syscall.SIGINT)
		s.signal(syscall.SIGTERM)
		s.goOn()
		s.end(130)
		s.nothingIsLeft()
	})
	// The engine makes what it was asked for, whoever has gone meanwhile: here a second later, when a script that did not wait
	// for it has long ended.
	t.Run("while the engine makes the node", func(t *testing.T) {
		t.Parallel()
		s := newScript(t, kindScript, "kind", map[string]string{"daemon-run": pause + "; sleep 1"})
		s.start()
		s.untilReached()
		s.signal(syscall.SIGTERM)
		s.goOn()
		s.end(143)
		s.nothingIsLeft()
	})
}
