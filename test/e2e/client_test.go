//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/e2e-framework/klient/wait/conditions"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
)

// client is the other pod: no launcher, and on the same pod network.
func client() *corev1.Pod {
	yes, no, nobody := true, false, int64(65532)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "client", Namespace: suite.name},
		Spec: corev1.PodSpec{
			NodeName:           suite.node.name,
			EnableServiceLinks: &no,
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: &yes, RunAsUser: &nobody,
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "client", Image: image("podnic-test"), ImagePullPolicy: corev1.PullNever,
				// Ends at once when told to, which sleep as a first process does not.
				Command: []string{"sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done"},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}
}

func startClient(ctx context.Context, c *envconf.Config) error {
	pod := client()
	r := c.Client().Resources()
	if err := r.Create(ctx, pod); err != nil {
		return err
	}
	if err := eventually(ctx, conditions.New(r).PodReady(pod)); err != nil {
		return fmt.Errorf("the pod client is not ready: %w: %+v", err, pod.Status)
	}
	return nil
}

// hello fetches /hello from a guest, as the other pod sees it.
func hello(ctx context.Context, c *envconf.Config, address string) error {
	answer, err := run(ctx, c, client(), "timeout", "60", "wget", "-q", "-O", "-", "http://"+address+"/hello")
	if err == nil && answer != "hello from the guest\n" {
		err = fmt.Errorf("http://%s/hello answered %q", address, answer)
	}
	return err
}

// inGuest runs a shell script in a guest and returns its output.
func inGuest(ctx context.Context, c *envconf.Config, address, script string) (string, error) {
	answer, err := run(ctx, c, client(), "timeout", "60", "wget", "-q", "-O", "-", "--post-data="+script, "http://"+address+"/cgi-bin/run")
	if err != nil {
		return "", err
	}
	out, ok := strings.CutSuffix(answer, "status=0\n")
	if !ok {
		return out, fmt.Errorf("guest: %q: %s", script, answer)
	}
	return out, nil
}

// ownService is nil where the cluster's own Service answers, which is that of the API server.
func ownService(ctx context.Context, c *envconf.Config) error {
	_, err := run(ctx, c, client(), "sh", "-c", "timeout 5 nc $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT </dev/null")
	return err
}
