package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// requestTime bounds one request to an emulated guest, which takes a second on a quiet machine.
const requestTime = 90 * time.Second

// Client talks to the web server of a running guest.
type Client struct {
	// Address of the guest.
	Address netip.Addr
	// Dial connects from where the client stands: a pod's DialContext.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Hello fetches /hello.
func (c Client) Hello(ctx context.Context) (string, error) {
	return c.request(ctx, http.MethodGet, "/hello", "")
}

// Run has the guest run a shell script and returns its output, both streams. A status other than 0 is an error.
func (c Client) Run(ctx context.Context, script string) (string, error) {
	answer, err := c.request(ctx, http.MethodPost, "/cgi-bin/run", script)
	if err != nil {
		return "", err
	}
	out, status, ok := cutLast(answer, "status=")
	if !ok {
		return answer, fmt.Errorf("guest: %q: the answer has no status", script)
	}
	if status = strings.TrimSpace(status); status != "0" {
		return out, fmt.Errorf("guest: %q: status %s: %s", script, status, strings.TrimSpace(out))
	}
	return out, nil
}

func cutLast(s, separator string) (before, after string, found bool) {
	i := strings.LastIndex(s, separator)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(separator):], true
}

// URL is that of a path on the guest's web server.
func (c Client) URL(path string) string {
	host := c.Address.String()
	if c.Address.Is6() {
		host = "[" + host + "]"
	}
	return "http://" + host + path
}

func (c Client) request(ctx context.Context, method, path, body string) (_ string, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	url := c.URL(path)
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	transport := &http.Transport{DialContext: c.Dial, DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", method, url, err)
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s", method, url, response.Status)
	}
	return string(text), err
}
