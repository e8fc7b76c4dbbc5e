package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Console follows a file that a serial console is written to, which need not exist yet.
type Console struct {
	path   string
	events *os.File // inotify, which tells when the file's directory changes
	stop   func()

	mu    sync.Mutex
	lines []string      // complete lines, without the guest's carriage returns
	news  chan struct{} // closed and replaced when lines grows
	err   error         // why following ended
}

// Follow starts to read the console in a file. Close ends it.
func Follow(path string) (*Console, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_CREATE|unix.IN_MODIFY|unix.IN_MOVED_TO); err != nil {
		events.Close()
		return nil, fmt.Errorf("watch %s: %w", filepath.Dir(path), err)
	}
	c := &Console{path: path, events: events, news: make(chan struct{})}
	c.stop = sync.OnceFunc(func() { events.Close() })
	go c.follow()
	return c, nil
}

// Close stops following. Lines that were read stay readable.
func (c *Console) Close() { c.stop() }

// follow reads what is new in the file whenever its directory has changed.
func (c *Console) follow() {
	buffer := make([]byte, 4096)
	for {
		err := c.read()
		if err == nil {
			_, err = c.events.Read(buffer)
		}
		if err != nil {
			c.add(nil, err)
			return
		}
	}
}

// read takes the complete lines that the file has more than c. A file that was truncated is a guest started again on the
// same console, whose lines start over.
func (c *Console) read() error {
	text, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var lines []string
	for line := range bytes.Lines(text) {
		if bytes.HasSuffix(line, []byte("\n")) {
			lines = append(lines, strings.TrimRight(string(line), "\r\n"))
		}
	}
	c.add(lines, nil)
	return nil
}

func (c *Console) add(lines []string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && len(lines) == len(c.lines) {
		return
	}
	if err == nil {
		c.lines = lines
	}
	c.err = err
	close(c.news)
	c.news = make(chan struct{})
}

// Wait returns the first line that starts with the prefix, such as "guest: lease". What was printed before the call counts.
// When the context ends first, the error has the last lines.
func (c *Console) Wait(ctx context.Context, prefix string) (string, error) {
	return c.WaitTimes(ctx, prefix, 1)
}

// WaitTimes returns the nth line that starts with the prefix: that of the guest's second boot, say.
func (c *Console) WaitTimes(ctx context.Context, prefix string, n int) (string, error) {
	for {
		c.mu.Lock()
		lines, news, err := c.lines, c.news, c.err
		c.mu.Unlock()
		seen := 0
		for _, line := range lines {
			if strings.HasPrefix(line, prefix) {
				seen++
			}
			if seen == n {
				return line, nil
			}
		}
		if err != nil {
			return "", fmt.Errorf("follow the console %s: %w", c.path, err)
		}
		select {
		case <-news:
		case <-ctx.Done():
			return "", fmt.Errorf("no %q on the guest's console: %w; it ends with:\n%s", prefix, ctx.Err(), c.tail(15))
		}
	}
}

// Text is all that was printed so far.
func (c *Console) Text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.lines, "\n")
}

func (c *Console) tail(n int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.lines[max(0, len(c.lines)-n):], "\n")
}

// Fields are the name=value words of a console line, such as address and mask of "guest: lease".
func Fields(line string) map[string]string {
	fields := make(map[string]string)
	for word := range strings.FieldsSeq(line) {
		if name, value, ok := strings.Cut(word, "="); ok {
			fields[name] = value
		}
	}
	return fields
}
