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

	"github.com/podnic/podnic/domain/domainxml"
	"github.com/podnic/podnic/domain/libvirt"
	"github.com/podnic/podnic/network/identity"
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
			if err != nil || found == nil || found.uuid != g.UUID() || found.state != GuestRunning || !bytes.Contains(found.xml, []byte("tap0")) {
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
			if _, err := s.lookUp(g.UUID()); err != errGone {
				t.Errorf("looked up after the end: %v", err)
			}
		})
	}
}

// othersKeep is what others may keep in a domain's metadata, as far as libxml2 reads it: names of XML 1.0's fifth edition and
// of none, and what is easily lost when a document is read and written again.
var othersKeep = map[string]string{
	"emoji":            `<x:😀 xmlns:x="urn:x"/>`,
	"fifth edition":    `<x:Ͱbc xmlns:x="urn:x"/>`,
	"several colons":   `<x:a:b xmlns:x="urn:x" xmlns:x:y="z"/>`,
	"no prefix":        `<:a xmlns="urn:x"/><b: xmlns="urn:y"/>`,
	"attribute":        `<x:a xmlns:x="urn:x" 𐐀="1" x:😀="2" a·b="3"/>`,
	"prefix":           `<😀:a xmlns:😀="urn:x"><😀:b/></😀:a>`,
	"of our spelling":  `<x:À1f600À xmlns:x="urn:x" ÀÀ="1">À1f600À</x:À1f600À>`,
	"instruction":      `<x:a xmlns:x="urn:x"><?😀 y À1f600À?></x:a>`,
	"breaks and tabs":  `<x:a xmlns:x="urn:x" b="a&#10;b&#9;c&#13;d" c="` + "1\r\n\t2" + `">t&#13;u&#10;&#9;</x:a>`,
	"quotes":           `<x:a xmlns:x="urn:'&quot;>x" b='"' c="'&gt;&amp;lt;"/>`,
	"CDATA, comment":   `<x:a xmlns:x="urn:x">1<![CDATA[<&]]>]]&gt;<!-- &amp;<a - b --> é</x:a>`,
	"metadata within":  `<metadata xmlns="urn:x"><pod/><podnic:pod xmlns:podnic="` + domainxml.MetadataURI + `"/></metadata>`,
	"an entity":        `<x:a xmlns:x="urn:x" b="&e;">1&e;2</x:a>`,
	"many attributes":  `<x xmlns="urn:x"` + attributes(5000) + `/>`,
	"an attribute, &c": `<x:a xmlns:x="urn:x" xml:lang="de" xml:space="preserve">  </x:a>`,
}

func parsed(t *testing.T, xml []byte) *domainxml.Document {
	t.Helper()
	d, err := domainxml.Parse(xml)
	if err != nil {
		t.Fatalf("%v in\n%s", err, xml)
	}
	return d
}

func attributes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, ` a%x=""`, i)
	}
	return b.String()
}

// TestLibvirtPassesOnWhatOthersKeep gives libvirt domains with metadata of others, as they are, and filled before, and filled
// after libvirt has printed them: the metadata that it prints are the same to the last byte.
func TestLibvirtPassesOnWhatOthersKeep(t *testing.T) {
	c := testConnection(t)
	for name, kept := range othersKeep {
		t.Run(name, func(t *testing.T) {
			document := strings.NewReplacer("<domain", `<!DOCTYPE domain [<!ENTITY e "&#49;">]><domain`, "%s", "kept",
				"<memory>", `<metadata>`+kept+`<podnic:pod xmlns:podnic="`+domainxml.MetadataURI+`" interface="net1"/></metadata><memory>`).Replace(testXML)
			start := func(xml []byte) (printed []byte) {
				t.Helper()
				g, err := c.Start(xml)
				if err != nil {
					t.Fatalf("%v: %.500s", err, xml)
				}
				found, err := current(t, c).find(g.Name())
				if err != nil || found == nil {
					t.Fatalf("%+v, %v", found, err)
				}
				g.Stop(t.Context(), 0)
				return found.xml
			}
			first := start([]byte(document))
			d := parsed(t, first)
			if pod, err := d.Pod(); err != nil || pod == nil || pod.Interface != "net1" || !d.MayBePods() {
				t.Errorf("podnic's element is %+v, %v", pod, err)
			}
			metadata := func(xml []byte) string {
				_, text, _ := strings.Cut(string(xml), "<metadata")
				text, _, _ = strings.Cut(text, "<memory")
				return text
			}
			for _, d := range []*domainxml.Document{parsed(t, []byte(document)), d} {
				filled, err := d.Fill(domainxml.NIC{Tap: "tap0", MAC: identity.MAC{0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x05}, MTU: 1450})
				if name == "an entity" {
					if err == nil || !strings.Contains(err.Error(), "&e;") {
						t.Errorf("an entity that libvirt leaves undefined: %v", err)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if before, after := metadata(first), metadata(start(filled)); before != after {
					t.Errorf("libvirt printed\n%.2000s\nand then\n%.2000s", before, after)
				}
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
	description = description[:domainxml.MaxSize-len(head)-len(tail)-4<<10]
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
		switch n, err := unix.Poll(ended, 90_000); {
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
