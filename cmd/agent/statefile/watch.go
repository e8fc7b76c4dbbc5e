package statefile

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Watch announces that files of interfaces' directories were replaced (inotify(7)), or those beside them, where they were
// before interfaces had directories. A directory that is not there announces nothing.
func Watch(stateDir string, ifaces ...string) (changed <-chan struct{}, stop func(), err error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, nil, fmt.Errorf("watch %s: %w", stateDir, err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	dirs := []string{stateDir}
	for _, iface := range ifaces {
		beside, _ := filepath.Glob(filepath.Join(stateDir, "."+iface+".*")) // fails on a wrong pattern alone, and then there is the tick
		dirs = append(append(dirs, beside...), filepath.Join(stateDir, iface))
	}
	for _, dir := range dirs {
		_, _ = unix.InotifyAddWatch(fd, dir, unix.IN_MOVED_TO|unix.IN_DELETE|unix.IN_ONLYDIR)
	}
	c := make(chan struct{}, 1)
	go func() {
		buffer := make([]byte, 4096)
		for {
			if _, err := f.Read(buffer); err != nil {
				return // closed
			}
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}()
	return c, func() { f.Close() }, nil
}
