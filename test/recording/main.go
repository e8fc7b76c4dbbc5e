// Command recording records a program at a terminal of 80 columns, and draws what it said, as it said it, as an animated
// picture: pauses are shortened, and what stands under a heading, a line in bold, is left for a while to be read.
//
// Usage:
//
//	recording FILE.cast COMMAND ARG…   record into FILE.cast (asciicast, version 2), and draw FILE.svg
//	recording -redraw FILE.cast        draw FILE.svg anew, without a run
//
// It knows what the demo writes: lines, bold and faint text. Whatever else a terminal can do is an error, so that no picture
// says something else than a terminal would. The same recording gives the same picture.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// columns and rows are the terminal's.
const columns, rows = 80, 32

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "recording:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 || (args[0] == "-redraw") != (len(args) == 2 && strings.HasSuffix(args[1], ".cast")) {
		return errors.New("usage: recording FILE.cast COMMAND ARG…, or recording -redraw FILE.cast")
	}
	path := args[0]
	if path == "-redraw" {
		path = args[1]
	} else {
		c, err := record(args[1:])
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, c.encode(), 0o644); err != nil {
			return err
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	picture, err := draw(b)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(strings.TrimSuffix(path, ".cast")+".svg", picture, 0o644)
}

// record runs a command at a terminal of its own, shows what it writes, and returns it when the command has ended well.
func record(command []string) (*cast, error) {
	master, slave, err := terminal()
	if err != nil {
		return nil, err
	}
	defer master.Close()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "TERM=xterm", "NO_COLOR=")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	began := time.Now()
	err = cmd.Start()
	slave.Close()
	if err != nil {
		return nil, err
	}
	c := &cast{}
	buffer := make([]byte, 1<<16)
	var partial string // of a character whose bytes have not all come
	for {
		n, err := master.Read(buffer)
		if n > 0 {
			whole, rest := cutPartial(partial + string(buffer[:n]))
			partial = rest
			c.events = append(c.events, event{time.Since(began), whole})
			_, _ = os.Stdout.WriteString(whole) // whoever looks on may go; the recording does not
		}
		if errors.Is(err, unix.EIO) || errors.Is(err, io.EOF) {
			break // the other side was closed: the command has ended
		}
		if err != nil {
			return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
		}
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("%s: %w", command[0], err)
	}
	return c, nil
}

// terminal makes one (pts(4)) and returns both its sides.
func terminal() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
		return nil, nil, fmt.Errorf("make a terminal: %w", err)
	}
	return master, slave, nil
}
