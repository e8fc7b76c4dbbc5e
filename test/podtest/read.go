package podtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/podnic/podnic/test/guest"
)

// Read is the text of a file.
func Read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Memory is what a process has of memory, in bytes, by the name of a line in its smaps_rollup (proc(5)): Rss, Pss, Anonymous.
func Memory(t testing.TB, pid int, name string) int64 {
	t.Helper()
	path := fmt.Sprintf("/proc/%d/smaps_rollup", pid)
	for line := range strings.Lines(Read(t, path)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("%s has no %s", path, name)
	return 0
}

// Get asks by HTTP for a path, on a connection that dial makes: on the thread that calls, which may be in a namespace.
func Get(dial func() (net.Conn, error), path string) (status int, text string, err error) {
	conn, err := dial()
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	client := http.Client{Timeout: Patience, Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }, DisableKeepAlives: true,
	}}
	response, err := client.Get("http://podnic" + path)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// Metrics are those of a unix socket, as text.
func Metrics(t testing.TB, socket string) string {
	t.Helper()
	status, text, err := Get(func() (net.Conn, error) { return net.Dial("unix", socket) }, "/metrics")
	if err != nil || status != http.StatusOK {
		t.Fatalf("metrics of %s: status %d, %v: %s", socket, status, err, text)
	}
	return text
}

// Wait waits for a line with a prefix on a guest's console, and returns it.
func Wait(t testing.TB, console *guest.Console, prefix string) string {
	t.Helper()
	return WaitTimes(t, console, prefix, 1)
}

// WaitTimes waits for so many of them, and returns the last.
func WaitTimes(t testing.TB, console *guest.Console, prefix string, times int) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	line, err := console.WaitTimes(ctx, prefix, times)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// Until waits until the status is as it should be. Only the program knows when it next writes its state, and so it is asked again
// and again.
func (s *Site) Until(what string, as func(Report) bool) {
	s.T.Helper()
	var r Report
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if r = s.Status(); as(r) {
			return
		}
	}
	s.T.Fatalf("it does not come to that: %s; the status is %+v", what, r)
}
