package metrics

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// Bounds of what a client can cost.
const (
	maxRequest  = 8 << 10 // bytes of a request line and its headers
	requestTime = 2 * time.Second
	acceptPause = 100 * time.Millisecond
)

// Path is where metrics are found, and ReadyPath whether the guest is ready, for probes that go by the status.
const (
	Path      = "/metrics"
	ReadyPath = "/ready"
)

// Server answers GET and HEAD of Path and ReadyPath, one request a connection, and everything else with an error. That is
// the part of HTTP/1.1 (RFC 9112) that a scrape and a probe take.
type Server struct {
	room    *room
	text    func() []byte
	ready   func() bool
	running sync.WaitGroup
}

// Serve serves what functions return until Close.
func Serve(listener net.Listener, text func() []byte, ready func() bool) *Server {
	s := &Server{room: &room{listener: listener}, text: text, ready: ready}
	s.running.Go(s.accept)
	return s
}

// Close closes the listener and all connections, and returns when nothing of the server runs any more.
func (s *Server) Close() {
	s.room.close()
	s.running.Wait()
}

func (s *Server) accept() {
	for {
		v, err := s.room.accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // no descriptors are left, say; there is no notice of when there are
			time.Sleep(acceptPause)
		default:
			s.running.Go(func() {
				defer v.Close()
				defer func() { _ = recover() }() // which costs this client its answer, and not the guest its server
				s.answer(v)
			})
		}
	}
}

// What is answered to requests that cannot be read.
var (
	errMalformed = errors.New("400 Bad Request")
	errTooLong   = errors.New("431 Request Header Fields Too Large")
)

// answer reads one request and writes the response. A client that goes away meanwhile does no harm.
func (s *Server) answer(v *visitor) {
	_ = v.SetDeadline(time.Now().Add(requestTime))
	method, path, err := readRequest(v)
	switch {
	case errors.Is(err, errMalformed), errors.Is(err, errTooLong):
		respond(v, method, err.Error(), plain, []byte(err.Error()))
		v.drain()
		return
	case err != nil:
		return // it said nothing more, or has gone
	}
	v.asked()
	switch {
	case path != Path && path != ReadyPath:
		respond(v, method, "404 Not Found", plain, []byte("metrics are at "+Path+"\n"))
	case method != "GET" && method != "HEAD":
		respond(v, method, "405 Method Not Allowed", plain+"\r\nAllow: GET, HEAD", []byte("GET or HEAD\n"))
	case path == Path:
		respond(v, method, "200 OK", ContentType, s.text())
		return
	case s.ready():
		respond(v, method, "200 OK", plain, []byte("ready\n"))
		return
	default:
		respond(v, method, "503 Service Unavailable", plain, []byte("the guest has taken no address yet\n"))
	}
	v.drain()
}

// readRequest reads the request line and skips the headers. No method that is served has a body.
func readRequest(conn io.Reader) (method, path string, err error) {
	limited := &io.LimitedReader{R: conn, N: maxRequest}
	lines := bufio.NewReaderSize(limited, 512)
	line := func() (string, error) {
		text, err := lines.ReadString('\n')
		if err != nil && limited.N <= 0 {
			err = errTooLong
		}
		return strings.TrimRight(text, "\r\n"), err
	}
	first, err := line()
	if err != nil {
		return "", "", err
	}
	method, rest, _ := strings.Cut(first, " ")
	target, version, _ := strings.Cut(rest, " ")
	if !strings.HasPrefix(version, "HTTP/1.") {
		return method, "", errMalformed
	}
	for text := version; text != ""; {
		if text, err = line(); err != nil {
			return method, "", err
		}
	}
	if _, absolute, ok := strings.Cut(target, "://"); ok { // RFC 9112, 3.2.2
		_, target, _ = strings.Cut(absolute, "/")
		target = "/" + target
	}
	path, _, _ = strings.Cut(target, "?")
	return method, path, nil
}

const plain = "text/plain; charset=utf-8"

func respond(conn io.Writer, method, status, contentType string, body []byte) {
	response := fmt.Appendf(nil, "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", status, contentType, len(body))
	if method != "HEAD" {
		response = append(response, body...)
	}
	_, _ = conn.Write(response)
}
