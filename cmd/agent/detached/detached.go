// Package detached starts a `podnic serve` that outlives the process that starts it, and is what the two say to each other.
package detached

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/podnic/podnic/cmd/agent/logs"
	"golang.org/x/sys/unix"
)

// A detached server is a `podnic serve` that outlives the process that started it. The two have a socket pair between them:
// the server says "ready" when it can hear the guest, or why it will not; the starter answers "stay", and is free to end.
// A server whose starter ends before that ends too, so that a kill at any moment leaves no server that nobody
// knows of.
const (
	sayReady = "ready\n"
	sayStay  = "stay\n"
)

// starterFD is the server's end of the socket pair: the first descriptor after the three that every program has.
const starterFD = 3

// Processors is the variable by which the runtime learns, when it starts, on how many processors it runs. A server runs on one.
const Processors = "GOMAXPROCS"

// StarterFlag is the flag by which `podnic serve` learns that it is detached.
const StarterFlag = "starter-fd"

// GuestFlag and GuestMTUFlag are flags by which `podnic serve` is told whose interfaces it serves besides those that are named, as
// UUID/NAME, and which MTU the guest's card of an interface takes, as INTERFACE=BYTES.
const (
	GuestFlag    = "guest"
	GuestMTUFlag = "guest-mtu"
)

// Start starts a server with these arguments of `podnic serve`, and returns its process id when it can hear the
// guest.
func Start(ctx context.Context, stateDir string, args []string) (int, error) {
	log, err := logs.Open(stateDir, "serve.log")
	if err != nil {
		return 0, fmt.Errorf("open the server's log: %w", err)
	}
	defer log.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, fmt.Errorf("make a socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "server"), os.NewFile(uintptr(pair[1]), "starter")
	defer ours.Close()
	program, err := os.Executable()
	if err == nil {
		err = keepDescriptors()
	}
	if err != nil {
		return 0, errors.Join(fmt.Errorf("start a server: %w", err), theirs.Close())
	}
	cmd := &exec.Cmd{
		Path:        program,
		Args:        append([]string{"podnic", "serve", fmt.Sprintf("--%s=%d", StarterFlag, starterFD)}, args...),
		Dir:         "/",
		Stdout:      log, // no standard input: /dev/null
		Stderr:      log,
		ExtraFiles:  []*os.File{theirs},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if os.Getenv(Processors) == "" {
		cmd.Env = append(os.Environ(), Processors+"=1") // else the server would start itself again to have it
	}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return 0, fmt.Errorf("start a server: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = ours.SetDeadline(time.Now()) })
	defer stop()
	said, err := bufio.NewReader(ours).ReadString('\n')
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, errors.Join(errors.New("the server is not ready in time"), cmd.Process.Kill())
	case err != nil:
		return 0, fmt.Errorf("the server ended before it was ready; its log is %s", log.Name())
	case said != sayReady:
		return 0, fmt.Errorf("the server does not start: %s", strings.TrimSpace(said))
	}
	if _, err := ours.WriteString(sayStay); err != nil {
		return 0, fmt.Errorf("the server ended as soon as it was ready; its log is %s", log.Name())
	}
	pid := cmd.Process.Pid
	return pid, cmd.Process.Release()
}

// keepDescriptors keeps from the server what this process was started with: the process that left it a descriptor may wait for its
// end, which would be the server's. close_range(2) could do it, but is newer than what some containers let through.
func keepDescriptors() error {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, entry := range open {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd >= starterFD {
			unix.CloseOnExec(fd) // that of the directory is closed already, and fails
		}
	}
	return nil
}

// Starter is, in a detached server, the process that started it. A nil Starter is nobody.
type Starter struct{ pipe *os.File }

// NewStarter takes the descriptor that the server was started with; none when it is negative.
func NewStarter(fd int) (*Starter, error) {
	if fd < 0 {
		return nil, nil
	}
	unix.CloseOnExec(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, fmt.Errorf("--%s is for podnic's own use: descriptor %d is not the socket of a starter", StarterFlag, fd)
	}
	return &Starter{os.NewFile(uintptr(fd), "starter")}, nil
}

// Ready tells the starter, and whether it wants the server to stay.
func (s *Starter) Ready() bool {
	defer s.pipe.Close()
	if _, err := s.pipe.WriteString(sayReady); err != nil {
		return false
	}
	answer, _ := bufio.NewReader(s.pipe).ReadString('\n')
	return answer == sayStay
}

// Failed tells the starter why there will be no server. Once it was told that there is one, it says nothing.
func (s *Starter) Failed(err error) {
	if s != nil && err != nil {
		_, _ = s.pipe.WriteString(strings.ReplaceAll(err.Error(), "\n", "; ") + "\n")
		s.pipe.Close()
	}
}
