package metrics

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Bounds of what a client can cost.
const (
	maxRequest  = 8 << 10 // bytes of a request line and its headers, to which net/http adds 4 KiB
	requestTime = 2 * time.Second
)

// Path is where metrics are found.
const Path = "/metrics"

// Server answers GET and HEAD of Path, one request a connection, and everything else with an error.
type Server struct {
	http *http.Server
	room *room
	done chan struct{}
}

// Serve serves what a function returns until Close.
func Serve(listener net.Listener, text func() []byte) *Server {
	type connection struct{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path, func(w http.ResponseWriter, r *http.Request) {
		if v, ok := r.Context().Value(connection{}).(*visitor); ok {
			v.asked()
		}
		b := text()
		w.Header().Set("Content-Type", ContentType)
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		_, _ = w.Write(b) // a client that goes away meanwhile is nobody's loss
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == Path {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "GET or HEAD", http.StatusMethodNotAllowed)
			return
		}
		http.Error(w, "metrics are at "+Path, http.StatusNotFound)
	})
	s := &Server{room: &room{Listener: listener}, done: make(chan struct{})}
	s.http = &http.Server{
		Handler: mux, ReadTimeout: requestTime, WriteTimeout: requestTime, MaxHeaderBytes: maxRequest,
		ErrorLog: log.New(io.Discard, "", 0), // what clients do wrong is theirs
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, connection{}, conn)
		},
	}
	s.http.SetKeepAlivesEnabled(false)
	go func() {
		defer close(s.done)
		_ = s.http.Serve(s.room) // ends by Close alone
	}()
	return s
}

// Close closes the listener and all connections.
func (s *Server) Close() {
	_ = s.http.Close()
	<-s.done
}
