package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/podnic/podnic/cmd/agent/offering"
	"github.com/podnic/podnic/cmd/agent/serving"
	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/domain/command"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
	"go.uber.org/zap"
)

// CommandTask is a guest that a command runs, and the namespace that it gets the interface of.
type CommandTask struct {
	network.Request
	Service offering.Service
	// Command is the program and its arguments, in which placeholders are replaced.
	Command []string
	// TapFD hands the tap over as a descriptor.
	TapFD bool
	// QMP is the path of QEMU's monitor, by which the guest is asked to shut down, and its link set; empty if there is none.
	QMP string
	// FollowCarrier has the guest's links go down and up with the carriers of the pod's interfaces, where there is a monitor.
	FollowCarrier bool
	// Grace is the guest's time to shut down when it was asked by QMP.
	Grace time.Duration
	// Started is when the program was.
	Started time.Time
}

// qmpTimeout bounds how long QEMU may take to answer.
const qmpTimeout = 2 * time.Second

// Command gives the pod's interface to a guest that a command runs, waits until the command has ended, and takes the interface
// back. Signals on stop are passed on. A [command.StartError] is that of a command that cannot be run.
func Command(t CommandTask, stop, reload <-chan os.Signal, log *zap.Logger) (command.Ending, error) {
	path, err := command.Find(t.Command[0])
	if err != nil {
		return command.Ending{}, err
	}
	if !t.TapFD && command.Uses(t.Command, "PODNIC_TAP_FD") {
		return command.Ending{}, plan.Refuse("the command is to have the tap's descriptor ($(PODNIC_TAP_FD)): pass --tap-fd")
	}
	r := &commandRun{loan: loan{Request: t.Request, service: t.Service, started: t.Started, log: log}, task: t, path: path}
	if t.QMP != "" {
		r.monitor = &command.Monitor{Path: t.QMP, Timeout: qmpTimeout}
	}
	return r.do(stop, reload)
}

// commandRun is one command on its way.
type commandRun struct {
	loan
	task    CommandTask
	path    string
	process *command.Process
	monitor *command.Monitor // nil: none
	end     func()           // of the server
}

func (r *commandRun) do(stop, reload <-chan os.Signal) (command.Ending, error) {
	ctx, early := untilStarted(stop)
	err := r.give(ctx, reload)
	first := early()
	if err != nil {
		return command.Ending{}, err
	}
	unfollow := r.followCarriers()
	ending := r.follow(stop, first)
	unfollow()
	log := r.log.Info
	if ending.ExitStatus() != 0 {
		log = r.log.Warn
	}
	log("the command "+ending.String(), zap.String("command", r.task.Command[0]))
	r.end()
	return ending, r.finish()
}

// untilStarted is a context that the first signal ends, for as long as there is no command to pass it on to. early ends that,
// and returns the signal if there was one.
func untilStarted(stop <-chan os.Signal) (ctx context.Context, early func() os.Signal) {
	ctx, cancel := context.WithCancelCause(context.Background())
	started, listened := make(chan struct{}), make(chan os.Signal, 1)
	go func() {
		defer close(listened)
		select {
		case s := <-stop:
			cancel(fmt.Errorf("ended by a signal (%s) before the command was started", s))
			listened <- s
		case <-started:
		}
	}()
	return ctx, func() os.Signal {
		close(started)
		return <-listened
	}
}

// give wires and serves the interface, and starts the command. After an error all of it has been taken back.
func (r *commandRun) give(ctx context.Context, reload <-chan os.Signal) error {
	if err := r.examine(ctx); err != nil {
		return orCause(ctx, err)
	}
	if err := r.claimFree(); err != nil {
		return err
	}
	var err error
	for _, name := range r.names {
		err = errors.Join(err, statefile.Remove(r.StateDir, name)) // of an earlier guest
	}
	if err == nil {
		err = r.wire(ctx)
	}
	if err != nil {
		r.serving.Close()
		return orCause(ctx, err)
	}
	r.end, err = r.serve(reload)
	if err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = r.start()
	}
	if err != nil {
		r.end()
		return r.takeBack(err)
	}
	return nil
}

// claimFree claims interfaces that no guest has. One of a command is not taken over: how it ends, only its parent is told.
func (r *commandRun) claimFree() error {
	seen, err := serving.Inspect(r.ofNames(), r.log)
	if err != nil {
		return err
	}
	for _, one := range seen {
		if !one.Attached {
			continue
		}
		who := "a process"
		if held, err := network.InspectTap(r.Request, one.Names.Tap); err == nil {
			who = held.Who()
		}
		return plan.Refuse("%s is held by %s, and a command's guest cannot be taken over: end it first, or serve it with `podnic serve`", one.Names.Tap, who)
	}
	return r.claim(seen...)
}

// start starts the command.
func (r *commandRun) start() error {
	var guest []command.Interface
	defer func() {
		for _, i := range guest {
			for _, f := range i.Files {
				f.Close() // the command has its own
			}
		}
	}()
	for _, w := range r.wired {
		i := command.Interface{
			Name: w.Names.Interface, Tap: w.Names.Tap, MAC: w.Record.Original.Link(plan.NIC).MAC,
			MTU: w.Record.Original.GuestMTU(), Queues: max(1, w.Record.Options.Queues),
		}
		if r.task.TapFD {
			files, err := network.OpenTap(r.Request, i.Tap, i.Queues)
			if err != nil {
				return err
			}
			i.Files = files
		}
		guest = append(guest, i)
	}
	ns, err := network.OpenNamespace(r.Namespace)
	if err != nil {
		return err
	}
	defer ns.Close()
	r.moment(statefile.EventCommand)
	if r.process, err = command.Start(r.path, r.task.Command, guest, ns.Do); err != nil {
		return err
	}
	r.log.Info("command started", zap.String("command", filepath.Base(r.path)), zap.Int("pid", r.process.PID()))
	return nil
}

// follow passes signals on until the command has ended, and one that came early. With QMP, the first asks the guest to shut
// down, and is passed on when the grace period is over; a second one does not wait. A command that became another user, whom
// this process may not signal (it has no CAP_KILL), is ended at its monitor.
func (r *commandRun) follow(stop <-chan os.Signal, early os.Signal) command.Ending {
	pass := func(s os.Signal) {
		r.log.Info("passing a signal on", zap.Stringer("signal", s))
		err := r.process.Pass(s)
		if errors.Is(err, syscall.EPERM) && r.monitor != nil {
			err = r.monitor.Quit()
		}
		if err != nil {
			r.log.Error("the command was not told to end", zap.Error(err))
		}
	}
	var first os.Signal
	asked := make(chan error, 1)
	var over <-chan time.Time
	heed := func(s os.Signal) {
		if r.monitor == nil || first != nil {
			pass(s)
			return
		}
		first, over = s, time.After(r.task.Grace)
		r.log.Info("asking the guest to shut down", zap.Stringer("signal", s), zap.Duration("grace", r.task.Grace))
		go func() { asked <- r.monitor.PowerDown() }()
	}
	if early != nil {
		heed(early)
	}
	for {
		select {
		case s := <-stop:
			heed(s)
		case err := <-asked:
			if err != nil {
				r.log.Warn("the guest cannot be asked to shut down, so the command is told to end", zap.Error(err))
				over = nil
				pass(first)
			}
		case <-over:
			r.log.Warn("the guest has not shut down in time, so the command is told to end")
			pass(first)
		case <-r.process.Ended():
			return r.process.Ending
		}
	}
}

// finish takes the interfaces back, unless something that the command has left behind still uses one.
func (r *commandRun) finish() error {
	if tap, held := r.holding(); held.Held {
		return fmt.Errorf("the command has ended, and %s is held by %s, which keeps its network: have the command run the guest in the foreground; now end that process, and run `podnic restore`",
			tap, held.Who())
	}
	return r.restore()
}
