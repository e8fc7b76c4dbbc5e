package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/test/repeat"
)

// writeIn in the environment has the test's own binary write a file there again and again, until it is killed.
const writeIn = "PODNIC_TEST_WRITE_IN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writeIn); dir != "" {
		d, err := Make(dir, "eth0")
		for err == nil {
			err = d.Write("record.json", make([]byte, 1<<16), 0o600, true)
		}
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func newDir(t *testing.T) (stateDir string, d *Dir) {
	t.Helper()
	stateDir = filepath.Join(t.TempDir(), "state")
	d, err := Make(stateDir, "eth0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return stateDir, d
}

func names(t *testing.T, d *Dir) []string {
	t.Helper()
	names, err := d.Names()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// TestKilledWriterLeavesNothingThatStays kills a process that writes, at moments all over a write.
func TestKilledWriterLeavesNothingThatStays(t *testing.T) {
	stateDir, d := newDir(t)
	moments := func(yield func(repeat.Moment) bool) {
		for range 20 {
			if !yield(repeat.After("write", 5*time.Millisecond+rand.N(20*time.Millisecond))) {
				return
			}
		}
	}
	for moment := range repeat.Moments(t, moments) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writeIn+"="+stateDir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(moment.After) // where in its run this hits does not matter
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if left := names(t, d); len(left) > 2 {
			t.Fatalf("left: %v", left)
		}
	}
	if err := d.Write("record.json", []byte("x"), 0o600, true); err != nil {
		t.Fatal(err)
	}
	if left := names(t, d); !slices.Equal(left, []string{"record.json"}) {
		t.Errorf("after a write there are %v", left)
	}
	// As a kill left it, now or before temporary files had one name.
	for _, name := range []string{".record.json.new", ".record.json-1234567"} {
		if err := os.WriteFile(d.Path(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Remove("record.json"); err != nil {
		t.Fatal(err)
	}
	if left := names(t, d); len(left) > 0 {
		t.Errorf("after a removal there are %v", left)
	}
}

// TestWritersDoNotMix has several write one file at once, and one read it.
func TestWritersDoNotMix(t *testing.T) {
	_, d := newDir(t)
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			for range 30 {
				if err := d.Write("state.json", []byte(strings.Repeat(string(rune('a'+i)), 1000+i)), 0o644, false); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for {
		b, err := d.Read("state.json")
		if err == nil && (len(b) < 1000 || strings.Trim(string(b), string(b[:1])) != "" || len(b) != 1000+int(b[0]-'a')) {
			t.Fatalf("read %d bytes: %.20q…", len(b), b)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		select {
		case <-done:
			if left := names(t, d); !slices.Equal(left, []string{"state.json"}) {
				t.Errorf("left: %v", left)
			}
			return
		default:
		}
	}
}

// TestFileThatIsNotPodnicsOwn is in a directory that is.
func TestFileThatIsNotPodnicsOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("gives files to others, and so needs root")
	}
	for name, make := range map[string]func(path, secret string) error{
		"link":   func(path, secret string) error { return os.Symlink(secret, path) },
		"names":  func(path, secret string) error { return os.Link(secret, path) },
		"fifo":   func(path, _ string) error { return unix.Mkfifo(path, 0o600) },
		"socket": func(path, _ string) error { return unix.Mknod(path, unix.S_IFSOCK|0o600, 0) },
		"device": func(path, _ string) error { return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) },
		"another": func(path, _ string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Chown(path, 107, 107))
		},
		"group": func(path, _ string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o660)) },
		"all":   func(path, _ string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o602)) },
	} {
		t.Run(name, func(t *testing.T) {
			_, d := newDir(t)
			secret := filepath.Join(t.TempDir(), "secret")
			if err := errors.Join(os.WriteFile(secret, []byte("secret"), 0o600), make(d.Path("f"), secret)); err != nil {
				t.Skipf("this machine has no such file: %v", err)
			}
			for verb, do := range map[string]func() error{
				"read":   func() error { _, err := d.Read("f"); return err },
				"tail":   func() error { _, err := d.Tail("f", 10); return err },
				"append": func() error { _, err := d.Append("f"); return err },
				"lock":   func() error { _, err := d.OpenLock("f"); return err },
			} {
				if err := do(); !IsUntrusted(err) {
					t.Errorf("%s: %v", verb, err)
				}
			}
			// What is written takes its place.
			if err := d.Write("f", []byte("new"), 0o600, false); err != nil {
				t.Error(err)
			}
			if b, err := d.Read("f"); string(b) != "new" || err != nil {
				t.Errorf("read back: %q, %v", b, err)
			}
			if b, err := os.ReadFile(secret); string(b) != "secret" || err != nil {
				t.Errorf("the other file is %q, %v", b, err)
			}
		})
	}
}

// TestReaderOfAnotherUserBelieves root, itself, and who it is told to.
func TestReaderOfAnotherUserBelieves(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("gives directories to others, and so needs root")
	}
	stateDir, d := newDir(t)
	if err := errors.Join(d.Write("state.json", []byte("x"), 0o644, false), os.Chown(d.Path("."), 65534, 0), os.Chown(d.Path("state.json"), 65534, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(stateDir, "eth0"); !IsUntrusted(err) || !strings.Contains(err.Error(), "user 65534 owns it (mode drwxr-xr-x)") {
		t.Errorf("somebody else's directory: %v", err)
	}
	if _, err := Make(stateDir, "eth0"); !IsUntrusted(err) {
		t.Errorf("to write in: %v", err)
	}
	other, err := Open(stateDir, "eth0", 65534)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if b, err := other.Read("state.json"); string(b) != "x" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := Open(stateDir, "eth1", 65534); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one that is not there: %v", err)
	}
}

// TestStateDirectoryMayBeALinkOfTheOperators but of nobody else's.
func TestStateDirectoryMayBeALinkOfTheOperators(t *testing.T) {
	stateDir, d := newDir(t)
	if err := d.Write("f", []byte("x"), 0o600, false); err != nil {
		t.Fatal(err)
	}
	link := stateDir + "-link"
	for _, target := range []string{stateDir, filepath.Base(stateDir)} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		linked, err := Open(link+"/", "eth0")
		if err != nil {
			t.Fatal(err)
		}
		if b, err := linked.Read("f"); string(b) != "x" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		linked.Close()
		if os.Geteuid() == 0 {
			if err := os.Lchown(link, 107, 107); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(link, "eth0"); !IsUntrusted(err) || !strings.Contains(err.Error(), "user 107 made") {
				t.Errorf("another's link: %v", err)
			}
		}
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNamesOfPodnicsOwnFilesAreNoInterfaces(t *testing.T) {
	for _, name := range []string{"", ".", "..", Own, ".x", "record.json", "state.json", "hook.log", "a/b"} {
		if _, err := Make(t.TempDir(), name); !Reserved(name) || err == nil && name != Own {
			t.Errorf("%q is taken for an interface", name)
		}
	}
	if Reserved("eth0") {
		t.Error("eth0 is not")
	}
}

func TestFileMayBeTooLong(t *testing.T) {
	_, d := newDir(t)
	if err := errors.Join(os.WriteFile(d.Path("f"), nil, 0o600), os.Truncate(d.Path("f"), MaxFile+1)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Read("f"); err == nil || IsUntrusted(err) {
		t.Errorf("a file of %d bytes: %v", MaxFile+1, err)
	}
}
