package statedir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// MaxFile is how long a file may be that is read as a whole, in bytes. The record of a pod with thousands of routes takes a
// few of these 16 MiB.
const MaxFile = 16 << 20

// MaxLog is from what size on a log is put aside when it is opened, in bytes.
const MaxLog = 1 << 20

// open opens a file of the directory that is to be believed.
func (d *Dir) open(name string, flags int) (*os.File, unix.Stat_t, error) {
	fd, err := openat(d.Fd(), name, flags)
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO): // a link; a socket, or a pipe that nobody reads
		return nil, unix.Stat_t{}, &UntrustedError{d.Path(name), "it is not a regular file"}
	case err != nil:
		return nil, unix.Stat_t{}, &fs.PathError{Op: "open", Path: d.Path(name), Err: err}
	}
	stat, err := d.check(fd, d.Path(name), unix.S_IFREG)
	if err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err != nil {
		return nil, stat, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), d.Path(name)), stat, nil
}

// Read reads a file of at most MaxFile bytes. Where there is none, the error is fs.ErrNotExist.
func (d *Dir) Read(name string) ([]byte, error) {
	f, stat, err := d.open(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	b.Grow(int(min(stat.Size, MaxFile)) + bytes.MinRead) // so that one read has all of it, and finds the end
	_, err = b.ReadFrom(io.LimitReader(f, MaxFile+1))
	if err == nil && b.Len() > MaxFile {
		err = fmt.Errorf("%s is longer than %d bytes", d.Path(name), MaxFile)
	}
	return b.Bytes(), err
}

// Tail reads the end of a file, at most so many bytes of it.
func (d *Dir) Tail(name string, most int64) ([]byte, error) {
	f, stat, err := d.open(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.NewSectionReader(f, max(0, stat.Size-most), most))
}

// temporary is what a file is called until it is complete. There is one for each name, so that a process killed in the
// middle of a write leaves a file that the next write uses again.
func temporary(name string) string { return "." + name + ".new" }

// Write replaces a file atomically: a reader finds the old one or the new one. With durable also after a power cut.
func (d *Dir) Write(name string, b []byte, mode fs.FileMode, durable bool) (err error) {
	f, err := d.create(temporary(name))
	if err != nil {
		return err
	}
	defer f.Close()
	renamed := false
	defer func() {
		if err != nil && !renamed {
			err = errors.Join(err, ignoreMissing(unix.Unlinkat(d.Fd(), temporary(name), 0)))
		}
	}()
	err = f.Truncate(0)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		_, err = f.Write(b)
	}
	if err == nil && durable {
		err = f.Sync()
	}
	if err != nil {
		return err
	}
	if err := unix.Renameat(d.Fd(), temporary(name), d.Fd(), name); err != nil {
		return &fs.PathError{Op: "replace", Path: d.Path(name), Err: err}
	}
	renamed = true
	if durable {
		return d.f.Sync()
	}
	return nil
}

// create opens a temporary file for this process alone, until it is closed. Another one that writes the same file has it
// for the length of a write, and then renames it: it is a new one that is wanted then.
func (d *Dir) create(name string) (*os.File, error) {
	for {
		f, mine, err := d.open(name, unix.O_WRONLY|unix.O_CREAT)
		if err != nil {
			return nil, err
		}
		for {
			if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
				break
			}
		}
		if err != nil {
			return nil, errors.Join(&fs.PathError{Op: "lock", Path: f.Name(), Err: err}, f.Close())
		}
		var there unix.Stat_t
		err = unix.Fstatat(d.Fd(), name, &there, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil && there.Ino == mine.Ino && there.Dev == mine.Dev {
			return f, nil
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
}

// Remove deletes a file, with what interrupted writes of it have left. One that is not there is as good.
func (d *Dir) Remove(name string) error {
	removed := false
	for _, n := range append([]string{name, temporary(name)}, d.strays(name)...) {
		err := unix.Unlinkat(d.Fd(), n, 0)
		if ignoreMissing(err) != nil {
			return &fs.PathError{Op: "remove", Path: d.Path(n), Err: err}
		}
		removed = removed || err == nil
	}
	if !removed {
		return nil
	}
	return d.f.Sync()
}

// strays are temporary files of podnic before they had one name.
func (d *Dir) strays(name string) []string {
	var strays []string
	names, _ := d.Names() // what cannot be listed cannot be removed
	for _, n := range names {
		if strings.HasPrefix(n, "."+name+"-") {
			strays = append(strays, n)
		}
	}
	return strays
}

func ignoreMissing(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// Names lists the directory.
func (d *Dir) Names() ([]string, error) {
	fd, err := openat(d.Fd(), ".", unix.O_RDONLY|unix.O_DIRECTORY) // with an offset of its own
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: d.path, Err: err}
	}
	f := os.NewFile(uintptr(fd), d.path)
	defer f.Close()
	return f.Readdirnames(-1)
}

// Append opens a log to add to. One that has grown long is put aside first, in the place of the one before.
func (d *Dir) Append(name string) (*os.File, error) {
	for {
		f, stat, err := d.open(name, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT)
		if err != nil || stat.Size <= MaxLog {
			return f, err
		}
		err = f.Close()
		if err == nil {
			err = unix.Renameat(d.Fd(), name, d.Fd(), name+".1")
		}
		if ignoreMissing(err) != nil { // missing: another process has put it aside
			return nil, &fs.PathError{Op: "rename", Path: d.Path(name), Err: err}
		}
	}
}

// OpenLock opens a file that is there to be locked, and makes it if need be.
func (d *Dir) OpenLock(name string) (*os.File, error) {
	f, _, err := d.open(name, unix.O_RDWR|unix.O_CREAT)
	return f, err
}
