package guest

import (
	"bufio"
	"fmt"
	"io"
	"path"
)

// The file types and modes of an archive member (inode(7)).
const (
	typeDirectory = 0o040000
	typeCharacter = 0o020000
	typeRegular   = 0o100000
	typeSymlink   = 0o120000
)

// archive writes a cpio archive of the "newc" format, which is what the kernel unpacks as its first root file system
// (Documentation/driver-api/early-userspace/buffer-format.rst). Made by hand, it needs no root for device nodes.
type archive struct {
	w       *bufio.Writer
	inode   int
	written int
	err     error
}

func newArchive(w io.Writer) *archive { return &archive{w: bufio.NewWriter(w)} }

func (a *archive) directory(name string) { a.member(name, typeDirectory|0o755, 0, 0, nil) }

// parents makes the directories that lead to a path. Those that are there are made again, which the kernel does not mind.
func (a *archive) parents(name string) {
	if dir := path.Dir(name); dir != "." {
		a.parents(dir)
		a.directory(dir)
	}
}

func (a *archive) file(name string, mode int, data []byte) {
	a.member(name, typeRegular|mode, 0, 0, data)
}

func (a *archive) symlink(name, target string) {
	a.member(name, typeSymlink|0o777, 0, 0, []byte(target))
}

func (a *archive) character(name string, major, minor int) {
	a.member(name, typeCharacter|0o600, major, minor, nil)
}

// close writes the trailer and returns the first error of all.
func (a *archive) close() error {
	a.member("TRAILER!!!", 0, 0, 0, nil)
	if a.err != nil {
		return a.err
	}
	return a.w.Flush()
}

func (a *archive) member(name string, mode, major, minor int, data []byte) {
	a.inode++
	links := 1
	// magic, inode, mode, uid, gid, links, mtime, size, device, special file's device, name's length, checksum
	a.write(fmt.Appendf(nil, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.inode, mode, 0, 0, links, 0, len(data), 0, 0, major, minor, len(name)+1, 0))
	a.write(append([]byte(name), 0))
	a.pad()
	a.write(data)
	a.pad()
}

func (a *archive) pad() {
	a.write(make([]byte, -a.written&3))
}

func (a *archive) write(p []byte) {
	if a.err != nil {
		return
	}
	n, err := a.w.Write(p)
	a.written += n
	a.err = err
}
