//go:build cgo && libvirt_dlopen

package domain

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/podnic/podnic/domain/libvirt"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Tests of the whole way to the real client library, through a helper, against its driver test:///default, which is within
// the helper: each connection has a world of its own here. It has a domain of its own, named test.

const (
	testURI = "test:///default"
	testXML = `<domain type='test'><name>podnic-%s</name><memory>1024</memory><os><type>hvm</type></os>` +
		`<devices><interface type='ethernet'><target dev='tap0' managed='no'/></interface></devices></domain>`

	pathVariable = "PODNIC_TEST_HELPER"
)

func init() {
	roles["helper"] = func() { _ = libvirt.Serve(os.Stdin, os.Stdout) }
	roles["podnic"] = actAsPodnic
}

// realHelper is podnic-libvirt, but for its main function.
func realHelper(t *testing.T) string {
	t.Helper()
	// The race detector would hold each end up for a second.
	return script(t, fmt.Sprintf("%s=helper GORACE=atexit_sleep_ms=0 exec '%s'\n", roleVariable, self(t)))
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func testConnection(t *testing.T) *Connection {
	t.Helper()
	c, err := connect(t.Context(), helperAt(realHelper(t), zap.NewNop()).dial, testURI, time.Minute, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestLibvirtLifeCycle(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(*testing.T, *Guest)
		want Ending
	}{
		"stop":    {func(t *testing.T, g *Guest) { g.Stop(t.Context(), time.Minute) }, Ending{Shutdown, "the guest shut down"}},
		"destroy": {func(t *testing.T, g *Guest) { g.Stop(t.Context(), 0) }, Ending{DestroyedAfterGrace, "the domain was destroyed"}},
		// Nobody else can connect to this world. It looks the same when it was not Stop that destroyed the guest.
		"virsh": {func(t *testing.T, g *Guest) { current(t, g.connection).destroy(g.UUID()) }, Ending{DestroyedByOther, "the domain was destroyed"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := testConnection(t)
			xml := []byte(strings.Replace(testXML, "%s", name, 1))
			g, err := c.Start(xml)
			if err != nil {
				t.Fatal(err)
			}
			s := current(t, c)
			found, err := s.find(g.Name())
			if err != nil || found == nil || found.uuid != g.UUID() || found.state != StateRunning || !bytes.Contains(found.xml, []byte("tap0")) {
				t.Errorf("found %+v, %v", found, err)
			}
			if again, err := c.Find(g.Name()); err != nil || again != g {
				t.Errorf("found %v, %v", again, err)
			}
			if _, err := c.Start(xml); err == nil || !strings.HasPrefix(err.Error(), `start domain "podnic-`+name+`": `) ||
				!strings.Contains(err.Error(), "already") || strings.Contains(err.Error(), "virError") {
				t.Errorf("started twice: %v", err)
			}
			test.end(t, g)
			if got, err := g.Follow(t.Context(), nil); err != nil || got != test.want {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
			if gone, err := c.Find(g.Name()); gone != nil || err != nil {
				t.Errorf("found %v, %v after the end", gone, err)
			}
			if _, err := s.look(g.UUID()); err != errGone {
				t.Errorf("looked up after the end: %v", err)
			}
		})
	}
}

func TestLibvirtRefusesInOneLine(t *testing.T) {
	c := testConnection(t)
	_, err := c.Start([]byte("<domain type='test'><name>x</name></domain>"))
	if err == nil || !strings.HasPrefix(err.Error(), `start domain "x": `) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
	dial := helperAt(realHelper(t), zap.NewNop()).dial
	for _, uri := range []string{"foo:///", "nonsense", "%%%", "test:///no/such/file"} {
		_, err := connect(t.Context(), dial, uri, 300*time.Millisecond, zap.NewNop())
		if err == nil || !strings.Contains(err.Error(), "connect to libvirt at "+uri) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", uri, err)
		}
		t.Log(err)
	}
}

// TestTheLongestDocumentIsCarried there and back, with what JSON would write otherwise.
func TestTheLongestDocumentIsCarried(t *testing.T) {
	description := strings.Repeat("é\u2028&lt;", 1<<20)
	head, tail, _ := strings.Cut(strings.Replace(testXML, "%s", "long", 1), "<memory>")
	head += "<description>"
	tail = "</description><memory>" + tail
	// What the document is longer by when libvirt writes it, it must be shorter by before.
	description = description[:maxSize-len(head)-len(tail)-4<<10]
	description = description[:strings.LastIndex(description, ";")+1]
	c := testConnection(t)
	g, err := c.Start([]byte(head + description + tail))
	if err != nil {
		t.Fatal(err)
	}
	found, err := current(t, c).find(g.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(found.xml, []byte(description)) {
		t.Errorf("of a description of %d bytes a document of %d came back without it", len(description), len(found.xml))
	}
}

// TestCallsAtOnce are a helper's first, which is when libvirt's binding could mix them up.
func TestCallsAtOnce(t *testing.T) {
	c := testConnection(t)
	var calls sync.WaitGroup
	for i := range 16 {
		calls.Go(func() {
			g, err := c.Start([]byte(strings.Replace(testXML, "%s", strconv.Itoa(i), 1)))
			if err != nil {
				t.Error(err)
				return
			}
			for range 8 {
				if again, err := c.Find(g.Name()); again != g || err != nil {
					t.Errorf("found %v, %v", again, err)
				}
			}
			if err := g.Stop(t.Context(), time.Minute); err != nil {
				t.Error(err)
			}
			if got, err := g.Follow(t.Context(), nil); err != nil || got.How != Shutdown {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
	calls.Wait()
}

func TestTheHelperEndsWithPodnic(t *testing.T) {
	podnic := exec.Command(self(t))
	podnic.Env = append(os.Environ(), roleVariable+"=podnic", pathVariable+"="+realHelper(t))
	in, err := podnic.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := podnic.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := podnic.Start(); err != nil {
		t.Fatal(err)
	}
	defer podnic.Wait() //nolint:errcheck // it is killed
	defer podnic.Process.Kill()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(pid, 0) // readable when the process has ended, whoever its parent is
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := podnic.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	ended := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		switch n, err := unix.Poll(ended, 10_000); {
		case err == unix.EINTR:
			continue
		case err != nil:
			t.Fatal(err)
		case n == 0:
			t.Error("the helper runs on")
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		return
	}
}

// actAsPodnic has a helper, says its process's number, and lives as long as the test wants.
func actAsPodnic() {
	s, err := helperAt(os.Getenv(pathVariable), zap.NewNop()).dial(context.Background(), testURI, func(event) {})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.(*process).cmd.Process.Pid)
	_, _ = io.Copy(io.Discard, os.Stdin)
}
