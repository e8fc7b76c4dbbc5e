package hooks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// answerTime bounds the wait for the other end of a socket: an earlier server that may be there still, and a
// client that has connected and says nothing. Without a bound the server's end waits two minutes for the latter.
const answerTime = 2 * time.Second

// listen opens the socket. The file of one that nobody listens on is an earlier container's and is replaced: the directory
// outlives containers.
func listen(ctx context.Context, path string) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return listener, openError(path, err)
	}
	conn, err := net.DialTimeout("unix", path, answerTime)
	switch {
	case err == nil:
		conn.Close()
		return nil, fmt.Errorf("another sidecar has the socket %s: give this one a name of its own (CONTAINER_NAME)", path)
	case !errors.Is(err, syscall.ECONNREFUSED):
		return nil, openError(path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, openError(path, err)
	}
	listener, err = (&net.ListenConfig{}).Listen(ctx, "unix", path)
	return listener, openError(path, err)
}

func openError(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("open the hook socket %s: %w (it must be in a directory that the launcher shares and this user may write)", path, err)
}
