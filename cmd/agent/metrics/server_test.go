package metrics

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds each wait for something that takes a moment on a quiet machine.
const patience = 90 * time.Second

// serve has a guest that is ready when somebody asks again.
func serve(t *testing.T) (s *Server, path string) {
	t.Helper()
	var asked atomic.Int32
	path = filepath.Join(t.TempDir(), "metrics.sock")
	l, err := Address{Socket: path}.Listen()
	if err != nil {
		t.Fatal(err)
	}
	s = Serve(l, func() []byte { return Text(families) }, func() bool { return asked.Add(1) > 1 })
	t.Cleanup(s.Close)
	return s, path
}

func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// TestRequests has the standard library read the responses.
func TestRequests(t *testing.T) {
	_, path := serve(t)
	text := string(Text(families))
	for _, test := range []struct {
		request, method string
		status          int
		body            string
	}{
		{"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n", "GET", 200, text},
		{"GET /metrics HTTP/1.0\n\n", "GET", 200, text},
		{"GET /metrics?name=a HTTP/1.1\r\nHost: x\r\n\r\n", "GET", 200, text},
		{"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD", 200, ""},
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET", 404, "metrics are at /metrics\n"},
		{"GET /metrics/ HTTP/1.1\r\nHost: x\r\n\r\n", "GET", 404, "metrics are at /metrics\n"},
		{"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n", "GET", 503, "the guest has taken no address yet\n"},
		{"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n", "GET", 200, "ready\n"},
		{"POST /ready HTTP/1.1\r\nHost: x\r\n\r\n", "POST", 405, "GET or HEAD\n"},
		{"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "POST", 405, "GET or HEAD\n"},
		{"hello\r\n\r\n", "GET", 400, "400 Bad Request"},
		{"GET /metrics\r\n\r\n", "GET", 400, "400 Bad Request"},
		{"GET http://podnic/metrics HTTP/1.1\r\nHost: podnic\r\n\r\n", "GET", 200, text},
		{"GET /metrics HTTP/1.1\r\nX: " + strings.Repeat("x", maxRequest+8<<10), "GET", 431, "431 Request Header Fields Too Large"},
	} {
		conn := dial(t, path)
		go conn.Write([]byte(test.request)) //nolint:errcheck // the server need not read all of it
		r, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: test.method})
		if err != nil {
			t.Errorf("%.40q: %v", test.request, err)
			continue
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != test.status || string(body) != test.body || !r.Close {
			t.Errorf("%.40q: %s, %v:\n%s", test.request, r.Status, err, body)
		}
		if test.status == 200 && !strings.Contains(test.request, ReadyPath) && r.Header.Get("Content-Type") != ContentType {
			t.Errorf("the content is %s", r.Header.Get("Content-Type"))
		}
	}
}

// slow are beginnings of a request, each of a client that does not go on.
var slow = []string{"", "G", "GET /metrics HTTP/1.1\r\n", "GET /metrics HTTP/1.1\r\nHost: x\r\nX: ", "POST /metrics HTTP/1.1\r\nContent-Length: 9\r\n\r\n", "\x16\x03\x01\x02"}

// scrape asks as Prometheus does.
func scrape(path string) error {
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) },
	}}
	r, err := client.Get("http://metrics" + Path)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err == nil && string(body) != string(Text(families)) {
		err = fmt.Errorf("%s: %.100s", r.Status, body)
	}
	return err
}

// TestSlowClientsNeitherBlockNorPileUp has a thousand of them, each of which comes again as soon as it is closed, while one
// asks.
func TestSlowClientsNeitherBlockNorPileUp(t *testing.T) {
	s, path := serve(t)
	stop := make(chan struct{})
	var others, came sync.WaitGroup
	for i := range 1000 {
		came.Add(1)
		others.Go(func() {
			once := sync.OnceFunc(came.Done)
			defer once()
			for {
				conn, err := net.Dial("unix", path)
				if err != nil {
					return // the server is closed
				}
				_, _ = io.WriteString(conn, slow[i%len(slow)])
				once()
				_, _ = io.Copy(io.Discard, conn)
				conn.Close()
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	came.Wait()
	for range 5 {
		if err := scrape(path); err != nil {
			t.Error(err)
		}
		s.room.mu.Lock()
		if n := len(s.room.here); n > maxConnections {
			t.Errorf("%d connections are open", n)
		}
		s.room.mu.Unlock()
	}
	close(stop)
	s.Close()
	others.Wait()
}

// TestCloseDoesNotWaitForClients closes the server under one that is in the middle of its request.
func TestCloseDoesNotWaitForClients(t *testing.T) {
	s, path := serve(t)
	conn := dial(t, path)
	if _, err := conn.Write([]byte("GET /metr")); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { s.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(requestTime):
		t.Error("it waits")
		<-done
	}
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("somebody listens still")
	}
}
