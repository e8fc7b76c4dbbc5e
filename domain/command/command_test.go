package command

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func here(f func() error) error { return f() }

// TestCommandsThatCannotRun has the statuses of a shell.
func TestCommandsThatCannotRun(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("no program"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{
		"podnic-no-such-program":      NotFound,
		filepath.Join(dir, "missing"): NotFound,
		plain:                         NotExecutable,
		dir:                           NotExecutable,
	} {
		_, err := Find(name)
		if failed, ok := errors.AsType[*StartError](err); !ok || failed.Status != want || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want the status %d and the name", name, err, want)
		}
	}
	// These are only found out by running them.
	for text, want := range map[string]int{"no program": NotExecutable, "#!/podnic/no/such/interpreter\n": NotFound} {
		path := filepath.Join(dir, "script")
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		_, err := Start(path, []string{"script"}, nil, here)
		if failed, ok := errors.AsType[*StartError](err); !ok || failed.Status != want {
			t.Errorf("%q: %v, want the status %d", text, err, want)
		}
	}
}

func TestEndingsHaveTheStatusOfAShell(t *testing.T) {
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -TERM $$": 128 + 15, "kill -KILL $$": 128 + 9} {
		p, err := Start("/bin/sh", []string{"sh", "-c", script}, nil, here)
		if err != nil {
			t.Fatal(err)
		}
		<-p.Ended()
		if got := p.ExitStatus(); got != want {
			t.Errorf("%s: %s, as the status %d; want %d", script, p.Ending, got, want)
		}
	}
}

// TestCommandGetsTapAndSignals hands a file in the tap's place over.
func TestCommandGetsTapAndSignals(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	script := `trap 'echo "$(PODNIC_TAP) $PODNIC_MTU" >&$(PODNIC_TAP_FD); exit 3' TERM; echo ready >&3; while :; do sleep 0.05; done`
	p, err := Start("/bin/sh", []string{"sh", "-c", script}, []Interface{{Name: "eth0", Tap: "tap7", MTU: 1450, Queues: 1, Files: []*os.File{write}}}, here)
	write.Close()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	if n, err := read.Read(b); err != nil || string(b[:n]) != "ready\n" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	if err := p.Pass(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-p.Ended()
	n, err := read.Read(b)
	if err != nil || string(b[:n]) != "tap7 1450\n" || p.Status != 3 {
		t.Errorf("it wrote %q (%v) and %s", b[:n], err, p.Ending)
	}
	if err := p.Pass(syscall.SIGTERM); err != nil {
		t.Errorf("a signal after the end: %v", err)
	}
}

// TestMonitorIsAsked plays QEMU's part, and that of one which does not answer.
func TestMonitorIsAsked(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "qmp")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asked := make(chan []string, 1)
	answer := func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		var all []string
		in := json.NewDecoder(c)
		_, _ = c.Write([]byte(`{"QMP":{"version":{"qemu":{"micro":22,"minor":2,"major":7},"package":""},"capabilities":["oob"]}}` + "\r\n"))
		for {
			var m struct{ Execute string }
			if in.Decode(&m) != nil {
				break
			}
			all = append(all, m.Execute)
			_, _ = c.Write([]byte(`{"return":{}}` + "\r\n"))
		}
		asked <- all
	}
	m := &Monitor{Path: socket, Timeout: time.Minute}
	for command, ask := range map[string]func() error{"system_powerdown": m.PowerDown, "quit": m.Quit} {
		go answer()
		if err := ask(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(<-asked, " "); got != "qmp_capabilities "+command {
			t.Errorf("asked for %s", got)
		}
	}
	if err := (&Monitor{Path: socket, Timeout: 50 * time.Millisecond}).PowerDown(); err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("a monitor that is busy: %v", err)
	}
	l.Close()
	if err := (&Monitor{Path: socket, Timeout: time.Second}).PowerDown(); err == nil || !strings.Contains(err.Error(), socket) {
		t.Errorf("a monitor that is not there: %v", err)
	}
}
