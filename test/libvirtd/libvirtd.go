package libvirtd

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/internal/process"
	"github.com/podnic/podnic/test/pod"
)

//go:embed hold.sh
var hold string

// Daemon is a libvirtd in a pod.
type Daemon struct {
	// URI connects to it from anywhere on the machine.
	URI string
	// Socket is the file in URI.
	Socket string
	// KVM is whether its guests can use hardware virtualization; see [guest.Domain].
	KVM bool
	// Log is the daemon's log file.
	Log string

	dir    string
	holder *exec.Cmd
}

// Start makes the namespaces and returns once the daemon accepts connections. Cancelling the context does not end it later.
func Start(ctx context.Context, p *pod.Pod) (*Daemon, error) {
	d, err := prepare(ctx, p)
	if err != nil {
		return nil, err
	}
	if err := d.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("libvirtd in %s: %w", p.Name, err), d.Close())
	}
	return d, nil
}

// prepare makes the namespaces.
func prepare(ctx context.Context, p *pod.Pod) (*Daemon, error) {
	kvm, err := guest.KVM(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(p.Dir, "libvirt-")
	if err != nil {
		return nil, err
	}
	d := &Daemon{
		KVM:    kvm,
		Socket: filepath.Join(dir, "run", "libvirt-sock"),
		Log:    filepath.Join(dir, "libvirtd.log"),
		dir:    dir,
	}
	d.URI = "qemu+unix:///system?socket=" + d.Socket
	if err := d.setUp(ctx, p); err != nil {
		return nil, errors.Join(fmt.Errorf("libvirtd in %s: %w", p.Name, err), d.Close())
	}
	return d, nil
}

func (d *Daemon) setUp(ctx context.Context, p *pod.Pod) error {
	for _, state := range []string{"/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt"} {
		if _, err := os.Stat(state); err != nil {
			return fmt.Errorf("%w (run scripts/setup)", err)
		}
	}
	if err := makeDirectories(d.dir); err != nil {
		return err
	}
	return d.startHolder(ctx, p)
}

// startHolder returns when the namespaces are complete.
func (d *Daemon) startHolder(ctx context.Context, p *pod.Pod) error {
	args := []string{"-c", hold, "hold", d.dir}
	if d.KVM {
		args = append(args, "kvm")
	}
	holder := p.Command(context.WithoutCancel(ctx), "/bin/sh", args...)
	holder.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID,
		Setpgid:    true, // a Ctrl-C in a terminal is for those who then close the daemon
	}
	var stderr strings.Builder
	holder.Stderr = &stderr
	// The pipe's end is the holder's end: it lasts as long as this process does not close it.
	if _, err := holder.StdinPipe(); err != nil {
		return err
	}
	stdout, err := holder.StdoutPipe()
	if err != nil {
		return err
	}
	if err := holder.Start(); err != nil {
		return fmt.Errorf("start the holder of the namespaces: %w", err)
	}
	d.holder = holder
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		wait := d.endHolder()
		return errors.Join(fmt.Errorf("make the private directories: %q: %s", line, strings.TrimSpace(stderr.String())), wait)
	}
	return nil
}

// start runs the daemon, which goes into the background when its sockets listen.
func (d *Daemon) start(ctx context.Context) error {
	// A file, since the daemon would keep a pipe open.
	output, err := os.Create(filepath.Join(d.dir, "output"))
	if err != nil {
		return err
	}
	defer output.Close()
	cmd := d.Command(ctx, "libvirtd", "--daemon", "--config", "/etc/libvirt/libvirtd.conf",
		"--pid-file", filepath.Join(d.dir, "run", "libvirtd.pid"))
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(output.Name())
		return fmt.Errorf("start: %w: %s\n%s", err, said, d.log())
	}
	// The drivers are loaded in the background, and one that fails takes the daemon down. The first answer comes after them.
	if _, err := d.Virsh(ctx, "uri"); err != nil {
		return fmt.Errorf("start: %w\n%s", err, d.log())
	}
	return nil
}

// Command prepares a program that runs beside the daemon, in all its namespaces, where qemu:///system is its URI. Signals
// do not reach it, since a helper waits for it.
func (d *Daemon) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	enter := []string{"--target", strconv.Itoa(d.holder.Process.Pid), "--mount", "--net", "--pid", "--uts", "--", name}
	return exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
}

// Virsh runs virsh on the daemon and returns its output without the blank lines around it.
func (d *Daemon) Virsh(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "virsh", append([]string{"--quiet", "--connect", d.URI}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("virsh %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// QEMU lists the process ids of the running guests.
func (d *Daemon) QEMU() ([]int, error) { return d.find("qemu-system-x86") }

// Kill ends the daemon as a crash would. Its guests live on.
func (d *Daemon) Kill() error { return d.signal(context.Background(), syscall.SIGKILL) }

// Stop has the daemon end in order. Its guests live on.
func (d *Daemon) Stop(ctx context.Context) error { return d.signal(ctx, syscall.SIGTERM) }

// Restart stops the daemon, if it runs, and starts it again with the same guests.
func (d *Daemon) Restart(ctx context.Context) error {
	if err := d.Stop(ctx); err != nil {
		return err
	}
	return d.start(ctx)
}

func (d *Daemon) signal(ctx context.Context, signal syscall.Signal) error {
	ids, err := d.find("libvirtd")
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := process.End(ctx, id, signal); err != nil {
			return fmt.Errorf("end libvirtd: %w", err)
		}
	}
	return nil
}

// find lists the processes of the daemon's PID namespace that have the name.
func (d *Daemon) find(name string) ([]int, error) {
	inside, err := process.Inside(process.PID, fmt.Sprintf("/proc/%d/ns/pid", d.holder.Process.Pid))
	if err != nil {
		return nil, err
	}
	var ids []int
	for _, p := range inside {
		if p.Name == name {
			ids = append(ids, p.ID)
		}
	}
	return ids, nil
}

// log is the daemon's log, to explain a failure.
func (d *Daemon) log() string {
	text, _ := os.ReadFile(d.Log)
	return strings.TrimSpace(string(text))
}

// Close ends the daemon and its guests at once and removes their files. Closing twice is no error.
func (d *Daemon) Close() error {
	return errors.Join(d.endHolder(), os.RemoveAll(d.dir))
}

// endHolder ends the first process of the PID namespace, and with it, before Wait returns, all others.
func (d *Daemon) endHolder() error {
	if d.holder == nil {
		return nil
	}
	err := d.holder.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	// Wait also closes our end of the pipes. The status is that of a process that was killed.
	if e := d.holder.Wait(); e != nil && d.holder.ProcessState == nil {
		err = errors.Join(err, e)
	}
	d.holder = nil
	return err
}
