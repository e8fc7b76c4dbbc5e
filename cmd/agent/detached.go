package agent

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

	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/statedir"
	"golang.org/x/sys/unix"
)

// A detached server is a `podnic serve` that outlives the process that started it. The two have a socket pair between them:
// the server says "ready" when it can hear the guest, or why it will not; the starter answers "stay", and is free to end.
// A server whose starter ends before that ends too, so that whoever is killed at whatever moment leaves no server that
// nobody knows of.
const (
	sayReady = "ready\n"
	sayStay  = "stay\n"
)

// starterFD is the server's end of the socket pair: the first descriptor after the three that every program has.
const starterFD = 3

// StarterFlag is the flag by which `podnic serve` learns that it is detached.
const StarterFlag = "starter-fd"

// startDetached starts a server with these arguments of `podnic serve`, and returns its process id when it can hear the
// guest.
func startDetached(ctx context.Context, stateDir string, args []string) (int, error) {
	log, err := openLog(stateDir, "serve.log")
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

// keepDescriptors keeps from the server what this process was started with: whoever left it a descriptor may wait for its end,
// which would be the server's. close_range(2) could do it, but is newer than what some containers let through.
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

// openLog opens a log to append to. It is of no interface.
func openLog(stateDir, name string) (*os.File, error) {
	d, err := statedir.Make(stateDir, statedir.Own)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Append(name)
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

// ready tells the starter, and whether it wants the server to stay.
func (s *Starter) ready() bool {
	defer s.pipe.Close()
	if _, err := s.pipe.WriteString(sayReady); err != nil {
		return false
	}
	answer, _ := bufio.NewReader(s.pipe).ReadString('\n')
	return answer == sayStay
}

// failed tells the starter why there will be no server. Once it was told that there is one, it says nothing.
func (s *Starter) failed(err error) {
	if s != nil && err != nil {
		_, _ = s.pipe.WriteString(strings.ReplaceAll(err.Error(), "\n", "; ") + "\n")
		s.pipe.Close()
	}
}

// Process says in the state file which process serves, so that a detached server can be ended by who did not start it.
type Process struct {
	ID int `json:"pid"`
	// Start tells the process from a later one of the same id: clock ticks since boot (proc_pid_stat(5), field 22).
	Start uint64 `json:"start"`
	// Detached says that it serves for the hook: nobody else ends it.
	Detached bool `json:"detached,omitempty"`
}

// thisProcess is the calling one.
func thisProcess() (*Process, error) {
	start, err := startTime(os.Getpid())
	if err != nil {
		return nil, err
	}
	return &Process{ID: os.Getpid(), Start: start}, nil
}

func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the program's name in parentheses, and may hold anything. The third follows it.
	text := string(b)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	const field = 22 - 3
	if len(fields) <= field {
		return 0, fmt.Errorf("/proc/%d/stat is not as proc_pid_stat(5) has it", pid)
	}
	return strconv.ParseUint(fields[field], 10, 64)
}

// open returns a descriptor for the server's process, whatever becomes of its id; -1 when it has ended.
func (s *server) open() (pidfd int, err error) {
	fd, err := unix.PidfdOpen(s.pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("find the server, process %d: %w", s.pid, err)
	}
	// Looked at after the descriptor was opened, so it is that process which has the socket of who serves.
	if !s.holder.HeldBy(s.pid) {
		unix.Close(fd)
		return -1, nil
	}
	return fd, nil
}

// endPatience is what a detached server has to end in when told to, before it is killed.
const endPatience = 2 * time.Second

// endDetached ends the detached server of an interface, or of any if none is named, and returns its process id, 0 when there
// was none. It ends nothing but what is proven to be one: what a file says of a process is not enough.
func endDetached(req network.Request, iface string) (int, error) {
	ns, err := network.OpenNamespace(req.Namespace)
	if err != nil {
		return 0, err
	}
	defer ns.Close()
	id, err := ns.ID()
	if err != nil {
		return 0, err
	}
	holders, err := ns.Holders(presencePrefix + iface)
	if err != nil {
		return 0, err
	}
	for _, holder := range holders {
		if iface != "" && holder.Name != presencePrefix+iface {
			continue
		}
		server, err := provenServer(&holder, req.StateDir, id)
		if err != nil {
			return 0, err
		}
		if server != nil && server.detached {
			return server.end()
		}
	}
	return 0, nil
}

// end ends the server and returns its process id, 0 when it had ended.
func (s *server) end() (int, error) {
	pid := s.pid
	fd, err := s.open()
	if fd < 0 {
		return 0, err
	}
	defer unix.Close(fd)
	for _, signal := range []syscall.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return 0, fmt.Errorf("end the server, process %d: %w", pid, err)
		}
		ended, err := pollEnd(fd, endPatience)
		if err != nil {
			return 0, fmt.Errorf("wait for the end of the server, process %d: %w", pid, err)
		}
		if ended {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("the server, process %d, does not end", pid)
}

// pollEnd waits until a process has ended: then its descriptor becomes readable (pidfd_open(2)).
func pollEnd(pidfd int, patience time.Duration) (bool, error) {
	deadline := time.Now().Add(patience)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(max(0, time.Until(deadline).Milliseconds())))
		if !errors.Is(err, unix.EINTR) {
			return n > 0, err
		}
	}
}
