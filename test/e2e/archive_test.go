//go:build e2e

package e2e

import (
	"context"
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/e2e-framework/pkg/envconf"

	"github.com/podnic/podnic/test/pages"
)

// TestArchiveIsBrought runs what docs/kubernetes.md has on a node with containerd, whose socket CONTAINERD_ADDRESS names. The
// archive is one that `make images SAVE=bin/images` has written.
func TestArchiveIsBrought(t *testing.T) {
	if os.Getenv("CONTAINERD_ADDRESS") == "" {
		t.Skip("CONTAINERD_ADDRESS names no containerd, which has the cluster's images here")
	}
	page, err := pages.Read("../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := page.RunBy(t.Name())
	if len(blocks) != 1 {
		t.Fatalf("the page has %d blocks", len(blocks))
	}
	reading(t, "archive", func(ctx context.Context, c *envconf.Config, r *reader) {
		r.follow(ctx, blocks...)
		if brought := r.shell(ctx, "ctr -n k8s.io images list -q"); !strings.Contains(brought, "localhost/podnic-launcher:") {
			r.t.Errorf("containerd has the images\n%s", brought)
		}
	})
}
