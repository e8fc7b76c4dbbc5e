package kubevirt

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/beevik/etree"

	"github.com/podnic/podnic/domain/kubevirt/hooks/info"
	"github.com/podnic/podnic/domain/kubevirt/hooks/v1alpha1"
	"github.com/podnic/podnic/domain/kubevirt/hooks/v1alpha2"
	"github.com/podnic/podnic/domain/kubevirt/hooks/v1alpha3"
	"github.com/podnic/podnic/test/podtest"
)

// callTime bounds a call. KubeVirt gives Info a second, and callbacks a minute.
const callTime = podtest.Patience

// launcher asks sidecars as KubeVirt's virt-launcher does (pkg/hooks/manager.go at d923fdb): it finds their sockets in the
// directories of the shared one, tells them apart by the file's name, and connects anew for each call.
type launcher struct {
	t        *testing.T
	dir      string
	sidecars []hook
}

// hook is a sidecar as the launcher knows it.
type hook struct {
	socket, version string
	points          []string
}

// collect waits for so many sidecars, looking as often as the launcher does.
func (l *launcher) collect(count int) {
	l.t.Helper()
	seen := map[string]bool{}
	deadline := time.Now().Add(podtest.Patience)
	for len(l.sidecars) < count {
		if time.Now().After(deadline) {
			l.t.Fatalf("of %d sidecars there are %v", count, l.sidecars)
		}
		sockets, err := filepath.Glob(filepath.Join(l.dir, "*", "*"))
		if err != nil {
			l.t.Fatal(err)
		}
		for _, socket := range sockets {
			if file, err := os.Stat(socket); err != nil || file.IsDir() || seen[filepath.Base(socket)] {
				continue
			}
			seen[filepath.Base(socket)] = true
			l.sidecars = append(l.sidecars, l.info(socket))
		}
		time.Sleep(100 * time.Millisecond) // the launcher polls, too
	}
}

func (l *launcher) info(socket string) hook {
	l.t.Helper()
	h := hook{socket: socket}
	err := h.call(l.t.Context(), func(ctx context.Context, c *grpc.ClientConn) error {
		// As the launcher, which dials until it is connected: the file is there a moment before anybody listens.
		answer, err := info.NewInfoClient(c).Info(ctx, &info.InfoParams{}, grpc.WaitForReady(true))
		if err != nil {
			return err
		}
		for _, version := range []string{"v1alpha3", "v1alpha2", "v1alpha1"} {
			if h.version == "" && slices.Contains(answer.GetVersions(), version) {
				h.version = version
			}
		}
		for _, point := range answer.GetHookPoints() {
			h.points = append(h.points, point.GetName())
		}
		return nil
	})
	if err != nil || h.version == "" {
		l.t.Fatalf("Info of %s: %+v: %v", socket, h, err)
	}
	return h
}

// call connects for one call.
func (h hook) call(ctx context.Context, do func(context.Context, *grpc.ClientConn) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	c, err := grpc.NewClient("unix:"+h.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer c.Close()
	return do(ctx, c)
}

// define asks one sidecar for its part of the domain, in the version that is named.
func (h hook) define(ctx context.Context, version, xml, vmi string) (defined string, err error) {
	err = h.call(ctx, func(ctx context.Context, c *grpc.ClientConn) error {
		var answer interface{ GetDomainXML() []byte }
		switch version {
		case "v1alpha1":
			answer, err = v1alpha1.NewCallbacksClient(c).OnDefineDomain(ctx, &v1alpha1.OnDefineDomainParams{DomainXML: []byte(xml), Vmi: []byte(vmi)})
		case "v1alpha2":
			answer, err = v1alpha2.NewCallbacksClient(c).OnDefineDomain(ctx, &v1alpha2.OnDefineDomainParams{DomainXML: []byte(xml), Vmi: []byte(vmi)})
		case "v1alpha3":
			answer, err = v1alpha3.NewCallbacksClient(c).OnDefineDomain(ctx, &v1alpha3.OnDefineDomainParams{DomainXML: []byte(xml), Vmi: []byte(vmi)})
		default:
			return fmt.Errorf("unknown version %s", version)
		}
		if err == nil {
			defined = string(answer.GetDomainXML())
		}
		return err
	})
	return defined, err
}

// define asks each sidecar in turn, the next one with what the one before it made.
func (l *launcher) define(xml, vmi string) string {
	l.t.Helper()
	for _, h := range l.sidecars {
		var err error
		if xml, err = h.define(l.t.Context(), h.version, xml, vmi); err != nil {
			l.t.Fatalf("OnDefineDomain: %v", err)
		}
	}
	return xml
}

// canonical writes a document with one spelling of quotes and of elements without content, and nothing around it.
func canonical(t *testing.T, xml string) string {
	t.Helper()
	d := etree.NewDocument()
	if err := d.ReadFromString(xml); err != nil {
		t.Fatalf("%v: %s", err, xml)
	}
	d.WriteSettings.CanonicalEndTags = true
	text, err := d.WriteToString()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(text)
}

// shutdown says that the guest has ended.
func (l *launcher) shutdown() {
	l.t.Helper()
	for _, h := range l.sidecars {
		if !slices.Contains(h.points, "Shutdown") {
			continue
		}
		err := h.call(l.t.Context(), func(ctx context.Context, c *grpc.ClientConn) error {
			_, err := v1alpha3.NewCallbacksClient(c).Shutdown(ctx, &v1alpha3.ShutdownParams{})
			return err
		})
		if err != nil {
			l.t.Errorf("Shutdown: %v", err)
		}
	}
}
