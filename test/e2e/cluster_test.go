//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/e2e-framework/klient/k8s"
	"sigs.k8s.io/e2e-framework/klient/k8s/resources"
	"sigs.k8s.io/e2e-framework/klient/wait"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
)

const (
	// patience bounds the wait for a state of a pod. An emulated guest boots in seconds; ten at once on two cores take a
	// minute, and at a load of 45 a test waited 227 seconds. Its end is only waited for when something is wrong.
	patience = 10 * time.Minute
	// interval is how often a state is asked for.
	interval = 300 * time.Millisecond
)

// setting is a variable of the environment, or what it is by default.
func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// image is the name by which `make images` has called an image.
func image(name string) string {
	return setting("IMAGE_PREFIX", "localhost") + "/" + name + ":" + setting("IMAGE_TAG", "dev")
}

func createNamespace(ctx context.Context, c *envconf.Config, name, level string) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
		"app.kubernetes.io/part-of":          "podnic-e2e",
		"pod-security.kubernetes.io/enforce": level,
	}}}
	r := c.Client().Resources()
	if err := r.Create(ctx, ns); err != nil {
		return fmt.Errorf("create the namespace %s: %w", name, err)
	}
	// Pods are refused until it is there.
	account := &corev1.ServiceAccount{}
	return eventually(ctx, func(ctx context.Context) (bool, error) {
		err := r.Get(ctx, "default", name, account)
		return err == nil, ignoreNotFound(err)
	})
}

func deleteNamespace(ctx context.Context, c *envconf.Config, name string) error {
	if err := remove(ctx, c, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
		return fmt.Errorf("delete the namespace %s: %w", name, err)
	}
	return nil
}

// remove deletes an object, if it is there, and waits until it is gone.
func remove(ctx context.Context, c *envconf.Config, obj k8s.Object, how ...resources.DeleteOption) error {
	r := c.Client().Resources()
	if err := ignoreNotFound(r.Delete(ctx, obj, how...)); err != nil {
		return err
	}
	return eventually(ctx, func(ctx context.Context) (bool, error) {
		err := r.Get(ctx, obj.GetName(), obj.GetNamespace(), obj)
		return apierrors.IsNotFound(err), ignoreNotFound(err)
	})
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// eventually asks until the answer is yes, or patience has ended.
func eventually(ctx context.Context, ask func(context.Context) (bool, error)) error {
	return wait.For(ask, wait.WithContext(ctx), wait.WithTimeout(patience), wait.WithInterval(interval), wait.WithImmediate())
}

// run executes a command in the pod's first container and returns what it printed on standard output. What it printed on
// standard error is in the error.
func run(ctx context.Context, c *envconf.Config, pod *corev1.Pod, command ...string) (string, error) {
	return runIn(ctx, c, pod, pod.Spec.Containers[0].Name, command...)
}

func runIn(ctx context.Context, c *envconf.Config, pod *corev1.Pod, container string, command ...string) (string, error) {
	var out, stderr bytes.Buffer
	err := c.Client().Resources().ExecInPod(ctx, pod.Namespace, pod.Name, container, command, &out, &stderr)
	if err != nil {
		err = fmt.Errorf("%s: %s: %w: %s", pod.Name, strings.Join(command, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out.String(), err
}

// logs is what a container said so far; previous is the one before the last restart.
func logs(ctx context.Context, c *envconf.Config, pod *corev1.Pod, container string, previous bool) (string, error) {
	return readLog(ctx, c, pod, &corev1.PodLogOptions{Container: container, Previous: previous})
}

// follow is all that a container says until it ends.
func follow(ctx context.Context, c *envconf.Config, pod *corev1.Pod, container string) (string, error) {
	return readLog(ctx, c, pod, &corev1.PodLogOptions{Container: container, Follow: true})
}

func readLog(ctx context.Context, c *envconf.Config, pod *corev1.Pod, options *corev1.PodLogOptions) (string, error) {
	clients, err := kubernetes.NewForConfig(c.Client().RESTConfig())
	if err != nil {
		return "", err
	}
	stream, err := clients.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, options).Stream(ctx)
	if err != nil {
		return "", err
	}
	defer stream.Close()
	text, err := io.ReadAll(stream)
	return string(text), err
}

// describe prints what is known of a pod whose test failed: its state, its events, and what its containers said.
func describe(ctx context.Context, t *testing.T, c *envconf.Config, pod *corev1.Pod) {
	r := c.Client().Resources(pod.Namespace)
	now := &corev1.Pod{}
	if err := r.Get(ctx, pod.Name, pod.Namespace, now); err != nil {
		t.Logf("pod %s: %v", pod.Name, err)
		return
	}
	t.Logf("pod %s: %s, %+v", pod.Name, now.Status.Phase, now.Status.ContainerStatuses)
	events := &corev1.EventList{}
	if err := r.List(ctx, events, resources.WithFieldSelector("involvedObject.name="+pod.Name)); err != nil {
		t.Logf("events of %s: %v", pod.Name, err)
	}
	for _, e := range events.Items {
		t.Logf("event of %s: %s: %s", pod.Name, e.Reason, e.Message)
	}
	statuses := append(now.Status.InitContainerStatuses, now.Status.ContainerStatuses...)
	for _, s := range statuses {
		if s.RestartCount > 0 {
			text, err := logs(ctx, c, pod, s.Name, true)
			t.Logf("%s of %s before its last restart: %v\n%s", s.Name, pod.Name, err, text)
		}
		text, err := logs(ctx, c, pod, s.Name, false)
		t.Logf("%s of %s: %v\n%s", s.Name, pod.Name, err, text)
	}
}
