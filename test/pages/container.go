package pages

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/internal/cache"
	"github.com/podnic/podnic/test/pod"
)

//go:embed hold.sh
var hold string

// capabilities are what docker and podman leave to root in a container.
const capabilities = "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,sys_chroot,mknod,audit_write,setfcap"

// Container is a pod's container without a container engine: the root of an image, with namespaces of its own but for the
// pod's network, a read-only /proc/sys, the devices that engines give and /dev/net/tun.
type Container struct {
	// Capabilities are those that a container of root's has, as setpriv(1) takes them.
	Capabilities string
	// Environ is that of the image.
	Environ []string

	pod    *pod.Pod
	dir    string
	holder *exec.Cmd
}

// Start makes a container in a pod, with Debian and the packages of the images. Cancelling the context does not end it later.
func Start(ctx context.Context, p *pod.Pod) (*Container, error) {
	root, err := cache.Need("make root", "root", "root")
	if err != nil {
		return nil, err
	}
	kvm, err := guest.KVM(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(p.Dir, "container-")
	if err != nil {
		return nil, err
	}
	c := &Container{Capabilities: capabilities, pod: p, dir: dir}
	args := []string{"-c", hold, "hold", p.Hostname, root, dir, p.Etc()}
	if kvm {
		args = append(args, "kvm")
	}
	c.holder = exec.Command("nsenter", append([]string{"--net=" + p.Path, "--", "/bin/sh"}, args...)...)
	c.holder.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Setpgid:    true, // a Ctrl-C in a terminal is for those who then close it
	}
	if err := c.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("a container in %s: %w", p.Name, err), c.Close())
	}
	return c, nil
}

// start returns when the namespaces are complete.
func (c *Container) start() error {
	var stderr strings.Builder
	c.holder.Stderr = &stderr
	// The pipe's end is the holder's end: it lasts as long as this process does not close it.
	if _, err := c.holder.StdinPipe(); err != nil {
		return err
	}
	stdout, err := c.holder.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.holder.Start(); err != nil {
		return err
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		_ = c.holder.Wait() // it has ended, and said why
		return fmt.Errorf("%q: %w: %s", line, err, strings.TrimSpace(stderr.String()))
	}
	return nil
}

// Close ends all that runs in the container. Closing twice is no error.
func (c *Container) Close() error {
	if c.holder.Process != nil && c.holder.ProcessState == nil {
		_ = c.holder.Process.Kill() // with the first process of a PID namespace all others end
		_ = c.holder.Wait()         // the status is that of a process that was killed
	}
	return os.RemoveAll(c.dir)
}

// Command prepares a shell script that runs in the container, as its user 0 unless it is told otherwise by further arguments of
// setpriv(1).
func (c *Container) Command(ctx context.Context, script string, as ...string) *exec.Cmd {
	args := []string{
		"--target", strconv.Itoa(c.holder.Process.Pid), "--mount", "--net", "--pid", "--uts", "--ipc", "--",
		"env", "--ignore-environment", "HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	}
	args = append(args, c.Environ...)
	args = append(args, "setpriv", "--inh-caps=-all", "--bounding-set=-all,+"+strings.ReplaceAll(c.Capabilities, ",", ",+"))
	args = append(args, as...)
	return exec.CommandContext(ctx, "nsenter", append(args, "--", "sh", "-ec", "cd /\n"+script)...)
}

// Put writes a file of this machine into the container.
func (c *Container) Put(ctx context.Context, from, to string) error {
	file, err := os.Open(from)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	return c.write(ctx, to, info.Mode().Perm(), file)
}

func (c *Container) write(ctx context.Context, to string, mode os.FileMode, content io.Reader) error {
	cmd := c.Command(ctx, fmt.Sprintf("mkdir -p %q\ncat >%q\nchmod %o %q", filepath.Dir(to), to, mode, to))
	cmd.Stdin = content
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("write %s: %w: %s", to, err, out)
	}
	return nil
}

// aptGet is there while an image is built: the root has the packages that an image installs, and none else.
const aptGet = `#!/bin/sh
case $1 in
update) ;;
install)
	shift
	for package in "$@"; do
		case $package in
		-*) ;;
		*) dpkg-query --show --showformat '${db:Status-Status}' "$package" | grep -qx installed ||
			{ echo "the root lacks $package: run make root" >&2; exit 1; } ;;
		esac
	done ;;
*) echo "apt-get $1?" >&2; exit 1 ;;
esac
`

// Build does what a Containerfile says, from FROM or from the stage that is named to the next one. What is copied comes from
// files, by its name in the Containerfile.
func (c *Container) Build(ctx context.Context, containerfile, stage string, files map[string]string) error {
	const stub = "/usr/local/sbin/apt-get"
	if err := c.write(ctx, stub, 0o755, strings.NewReader(aptGet)); err != nil {
		return err
	}
	inside := stage == ""
	for line := range strings.SplitSeq(strings.ReplaceAll(containerfile, "\\\n", "\\\x00"), "\n") {
		instruction, rest, _ := strings.Cut(strings.ReplaceAll(line, "\x00", "\n"), " ")
		var err error
		switch {
		case instruction == "FROM" && stage != "":
			inside = strings.HasSuffix(rest, " AS "+stage)
		case !inside:
		case instruction == "RUN":
			var out []byte
			if out, err = c.Command(ctx, rest).CombinedOutput(); err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
		case instruction == "ENV":
			c.Environ = append(c.Environ, strings.Fields(rest)...)
		case instruction == "COPY":
			err = c.copy(ctx, strings.Fields(rest), files)
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", instruction, rest, err)
		}
	}
	if out, err := c.Command(ctx, "rm "+stub).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func (c *Container) copy(ctx context.Context, args []string, files map[string]string) error {
	to := args[len(args)-1]
	for _, from := range args[:len(args)-1] {
		if strings.HasPrefix(from, "--") {
			continue
		}
		path, known := files[from]
		if !known {
			return fmt.Errorf("nobody says where %s is", from)
		}
		target := to
		if strings.HasSuffix(to, "/") {
			target = filepath.Join(to, filepath.Base(from))
		}
		if path == "" {
			continue // a test leaves it out
		}
		if err := c.Put(ctx, path, target); err != nil {
			return err
		}
	}
	return nil
}
