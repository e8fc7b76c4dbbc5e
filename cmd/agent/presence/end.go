package presence

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/holding"
	"golang.org/x/sys/unix"
)

// open returns a descriptor for the server's process, whatever becomes of its id; -1 when it has ended.
func (s *Process) open() (pidfd int, err error) {
	fd, err := unix.PidfdOpen(s.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("find the server, process %d: %w", s.PID, err)
	}
	// Looked at after the descriptor was opened, so it is that process that has the server's socket.
	if !s.Holder.HeldBy(s.PID) {
		unix.Close(fd)
		return -1, nil
	}
	return fd, nil
}

// endPatience is what a detached server has to end in when told to, before it is killed.
const endPatience = 2 * time.Second

// EndDetached ends the detached servers that serve none but these interfaces, or all if none is named, and returns their process
// ids. It ends nothing but what is proven to be one: what a file says of a process is not enough.
func EndDetached(req network.Request, ifaces ...string) ([]int, error) {
	ns, err := network.OpenNamespace(req.Namespace)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	servers, err := Detached(ns, req.StateDir, ifaces...)
	var ended []int
	for _, server := range servers {
		pid, failed := server.End()
		if failed != nil {
			return ended, failed
		}
		if pid > 0 {
			ended = append(ended, pid)
		}
	}
	return ended, err
}

// Detached are the detached servers that serve none but these interfaces, or all if none is named, as far as they are proven to be
// such. With an error they are those that were found before it.
func Detached(ns *network.Namespace, stateDir string, ifaces ...string) (servers []*Process, err error) {
	holders, err := All(ns)
	if err != nil || len(holders) == 0 {
		return nil, err
	}
	id, err := ns.ID()
	if err != nil {
		return nil, err
	}
	meant := func(h holding.Socket) bool { return len(ifaces) == 0 || slices.Contains(ifaces, interfaceOf(&h)) }
	for _, holder := range holders {
		if !meant(holder) {
			continue
		}
		server, err := Proven(&holder, stateDir, id)
		if err != nil {
			return servers, err
		}
		if server == nil || !server.Detached || slices.ContainsFunc(servers, func(p *Process) bool { return p.PID == server.PID }) ||
			slices.ContainsFunc(holders, func(o holding.Socket) bool { return !meant(o) && o.HeldBy(server.PID) }) {
			continue // it notices by itself that this interface is gone
		}
		for _, h := range holders {
			if h.HeldBy(server.PID) {
				server.Interfaces = append(server.Interfaces, interfaceOf(&h))
			}
		}
		servers = append(servers, server)
	}
	return servers, nil
}

// End ends the server and returns its process id, 0 when it had ended.
func (s *Process) End() (int, error) {
	pid := s.PID
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
