package hooks

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/podnic/podnic/domain/kubevirt"
	"github.com/podnic/podnic/domain/kubevirt/hooks/info"
	"github.com/podnic/podnic/domain/kubevirt/hooks/v1alpha1"
	"github.com/podnic/podnic/domain/kubevirt/hooks/v1alpha2"
	"github.com/podnic/podnic/domain/kubevirt/hooks/v1alpha3"
)

// patience bounds what takes milliseconds.
const patience = 90 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sidecar answers as it is told to.
type sidecar struct {
	define   func(ctx context.Context, xml, vmi []byte) ([]byte, error)
	shutdown func()
}

func (s sidecar) OnDefineDomain(ctx context.Context, xml, vmi []byte) ([]byte, error) {
	return s.define(ctx, xml, vmi)
}
func (s sidecar) Shutdown() { s.shutdown() }

// start serves until the test ends or the returned function is called, which returns the server's error.
func start(t *testing.T, s sidecar) (path string, stop func() error) {
	t.Helper()
	socket := kubevirt.Socket{Dir: t.TempDir(), Name: "podnic-test.sock"}
	path = filepath.Join(socket.Dir, socket.Name)
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan struct{})
	var err error
	go func() {
		defer close(ended)
		err = Serve(ctx, socket, s, func() { close(ready) }, zaptest.NewLogger(t))
	}()
	stop = func() error {
		cancel()
		<-ended
		return err
	}
	t.Cleanup(func() { _ = stop() })
	select {
	case <-ready:
	case <-ended:
		t.Fatal(err)
	}
	return path, stop
}

func dial(t *testing.T, path string) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestEveryVersionIsAnswered calls each service as KubeVirt's clients do.
func TestEveryVersionIsAnswered(t *testing.T) {
	over := make(chan struct{})
	path, stop := start(t, sidecar{
		define:   func(_ context.Context, xml, vmi []byte) ([]byte, error) { return append(xml, vmi...), nil },
		shutdown: func() { close(over) },
	})
	c := dial(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	about, err := info.NewInfoClient(c).Info(ctx, &info.InfoParams{})
	if err != nil || about.GetName() != "podnic" || strings.Join(about.GetVersions(), " ") != "v1alpha3 v1alpha2 v1alpha1" {
		t.Errorf("Info: %v, %v", about, err)
	}
	var points []string
	for _, p := range about.GetHookPoints() {
		points = append(points, p.GetName())
	}
	// With PreCloudInitIso among them, another sidecar that wants it would not be asked.
	if got := strings.Join(points, " "); got != "OnDefineDomain Shutdown" {
		t.Errorf("the hook points are %s", got)
	}

	one, err := v1alpha1.NewCallbacksClient(c).OnDefineDomain(ctx, &v1alpha1.OnDefineDomainParams{DomainXML: []byte("x"), Vmi: []byte("1")})
	if err != nil || string(one.GetDomainXML()) != "x1" {
		t.Errorf("v1alpha1: %v, %v", one, err)
	}
	two, err := v1alpha2.NewCallbacksClient(c).OnDefineDomain(ctx, &v1alpha2.OnDefineDomainParams{DomainXML: []byte("x"), Vmi: []byte("2")})
	if err != nil || string(two.GetDomainXML()) != "x2" {
		t.Errorf("v1alpha2: %v, %v", two, err)
	}
	three, err := v1alpha3.NewCallbacksClient(c).OnDefineDomain(ctx, &v1alpha3.OnDefineDomainParams{DomainXML: []byte("x"), Vmi: []byte("3")})
	if err != nil || string(three.GetDomainXML()) != "x3" {
		t.Errorf("v1alpha3: %v, %v", three, err)
	}
	iso2, err := v1alpha2.NewCallbacksClient(c).PreCloudInitIso(ctx, &v1alpha2.PreCloudInitIsoParams{CloudInitNoCloudSource: []byte("n"), CloudInitData: []byte("d"), Vmi: []byte("v")})
	if err != nil || string(iso2.GetCloudInitNoCloudSource()) != "n" || string(iso2.GetCloudInitData()) != "d" {
		t.Errorf("v1alpha2 PreCloudInitIso: %v, %v", iso2, err)
	}
	iso3, err := v1alpha3.NewCallbacksClient(c).PreCloudInitIso(ctx, &v1alpha3.PreCloudInitIsoParams{CloudInitNoCloudSource: []byte("n"), CloudInitData: []byte("d"), Vmi: []byte("v")})
	if err != nil || string(iso3.GetCloudInitNoCloudSource()) != "n" || string(iso3.GetCloudInitData()) != "d" {
		t.Errorf("v1alpha3 PreCloudInitIso: %v, %v", iso3, err)
	}
	if _, err := v1alpha3.NewCallbacksClient(c).Shutdown(ctx, &v1alpha3.ShutdownParams{}); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	<-over
	if err := stop(); err != nil {
		t.Errorf("the end: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is there still: %v", err)
	}
}

// TestErrorsCarryTheReason has the callback fail in each way: the launcher's log is where a user looks.
func TestErrorsCarryTheReason(t *testing.T) {
	for name, test := range map[string]struct {
		define func(context.Context, []byte, []byte) ([]byte, error)
		code   codes.Code
		words  string
	}{
		"error": {func(context.Context, []byte, []byte) ([]byte, error) { return nil, errors.New("no such\ninterface") }, codes.FailedPrecondition, "podnic: no such; interface"},
		"panic": {func(context.Context, []byte, []byte) ([]byte, error) { panic("oops") }, codes.Internal, "panic: oops"},
		"late": {func(ctx context.Context, _, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, codes.DeadlineExceeded, ""},
	} {
		t.Run(name, func(t *testing.T) {
			path, _ := start(t, sidecar{define: test.define})
			c := dial(t, path)
			timeout := patience
			if name == "late" {
				timeout = 50 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			_, err := v1alpha3.NewCallbacksClient(c).OnDefineDomain(ctx, &v1alpha3.OnDefineDomainParams{})
			if status.Code(err) != test.code || !strings.Contains(err.Error(), test.words) {
				t.Errorf("got %v", err)
			}
			// It goes on.
			if _, err := info.NewInfoClient(c).Info(t.Context(), &info.InfoParams{}); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// TestLargeDomainsPass has more in it than gRPC takes by default.
func TestLargeDomainsPass(t *testing.T) {
	path, _ := start(t, sidecar{define: func(_ context.Context, xml, vmi []byte) ([]byte, error) { return xml[:1], nil }})
	large := make([]byte, 4<<20)
	_, err := v1alpha3.NewCallbacksClient(dial(t, path)).OnDefineDomain(t.Context(), &v1alpha3.OnDefineDomainParams{DomainXML: large, Vmi: large[:1<<20]})
	if err != nil {
		t.Error(err)
	}
}

// TestSocketOfAnEarlierContainerIsReplaced finds the file of a server that was killed, which stays where containers go.
func TestSocketOfAnEarlierContainerIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	alive, err := listen(t.Context(), path)
	if err != nil {
		t.Fatalf("over the file of a dead server: %v", err)
	}
	defer alive.Close()
	if _, err := listen(t.Context(), path); err == nil || !strings.Contains(err.Error(), "CONTAINER_NAME") {
		t.Errorf("over a living server: %v", err)
	}
	if _, err := listen(t.Context(), filepath.Join(t.TempDir(), "missing", "s.sock")); err == nil || !strings.Contains(err.Error(), "shares") {
		t.Errorf("in a directory that is not there: %v", err)
	}
}

// TestSilentClientDoesNotHoldUpTheEnd keeps a connection open that says nothing, and one that says half of something.
func TestSilentClientDoesNotHoldUpTheEnd(t *testing.T) {
	path, stop := start(t, sidecar{})
	for _, words := range []string{"", "PRI * HTTP/2.0\r\n"} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte(words)); err != nil {
			t.Fatal(err)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
