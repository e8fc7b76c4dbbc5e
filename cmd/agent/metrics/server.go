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
	maxRequest     = 8 << 10 // bytes of a request line and its headers
	maxConnections = 4       // at once; more wait in the kernel's queue
	requestTime    = 2 * time.Second
	acceptPause    = 100 * time.Millisecond
)

// Path is where metrics are found.
const Path = "/metrics"

// Server answers GET and HEAD of Path, one request a connection, and everything else with an error. That is the part of
// HTTP/1.1 (RFC 9112) that a scrape takes.
type Server struct {
	listener net.Listener
	text     func() []byte
	running  sync.WaitGroup
	mu       sync.Mutex
	open     map[net.Conn]bool // nil once the server is closed
}

// Serve serves what a function returns until Close.
func Serve(listener net.Listener, text func() []byte) *Server {
	s := &Server{listener: listener, text: text, open: make(map[net.Conn]bool)}
	s.running.Go(s.accept)
	return s
}

// Close closes the listener and all connections, and waits for those who answer.
func (s *Server) Close() {
	s.listener.Close()
	s.mu.Lock()
	for conn := range s.open {
		conn.Close()
	}
	s.open = nil
	s.mu.Unlock()
	s.running.Wait()
}

func (s *Server) accept() {
	slots := make(chan struct{}, maxConnections)
	for {
		slots <- struct{}{}
		conn, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no descriptors are left, say; there is no notice of when there are
			<-slots
			time.Sleep(acceptPause)
			continue
		}
		if !s.track(conn) {
			conn.Close()
			return
		}
		s.running.Go(func() {
			defer func() { s.untrack(conn); <-slots }()
			s.answer(conn)
		})
	}
}

func (s *Server) track(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		return false
	}
	s.open[conn] = true
	return true
}

func (s *Server) untrack(conn net.Conn) {
	s.mu.Lock()
	delete(s.open, conn)
	s.mu.Unlock()
	conn.Close()
}

// answer reads one request and writes the response. A client that goes away meanwhile is nobody's loss.
func (s *Server) answer(conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(requestTime))
	method, path, err := readRequest(conn)
	switch {
	case err != nil:
		respond(conn, method, "400 Bad Request", "text/plain", []byte("not an HTTP request\n"))
	case path != Path:
		respond(conn, method, "404 Not Found", "text/plain", []byte("metrics are at "+Path+"\n"))
	case method != "GET" && method != "HEAD":
		respond(conn, method, "405 Method Not Allowed", "text/plain", []byte("GET or HEAD\n"))
	default:
		respond(conn, method, "200 OK", ContentType, s.text())
	}
}

// readRequest reads the request line and skips the headers. No method that is served has a body.
func readRequest(conn io.Reader) (method, path string, err error) {
	lines := bufio.NewReaderSize(io.LimitReader(conn, maxRequest), 512)
	first, err := lines.ReadString('\n')
	if err != nil {
		return "", "", err
	}
	method, rest, _ := strings.Cut(strings.TrimRight(first, "\r\n"), " ")
	target, version, ok := strings.Cut(rest, " ")
	if !ok || !strings.HasPrefix(version, "HTTP/1.") {
		return method, "", fmt.Errorf("%q is not a request line", first)
	}
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return method, "", err
		}
		if strings.TrimRight(line, "\r\n") == "" {
			break
		}
	}
	path, _, _ = strings.Cut(target, "?")
	return method, path, nil
}

func respond(conn io.Writer, method, status, contentType string, body []byte) {
	head := fmt.Sprintf("HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n", status, contentType, len(body))
	if strings.HasPrefix(status, "405") {
		head += "Allow: GET, HEAD\r\n"
	}
	response := append([]byte(head), "\r\n"...)
	if method != "HEAD" {
		response = append(response, body...)
	}
	_, _ = conn.Write(response)
}
