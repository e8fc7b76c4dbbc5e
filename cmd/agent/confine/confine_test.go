package confine

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// What a process is confined to it cannot get back, so each test does it in a child.
const (
	needsVariable = "PODNIC_TEST_NEEDS"
	olderVariable = "PODNIC_TEST_OLDER_KERNEL"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(needsVariable); text != "" {
		child(text)
		return
	}
	os.Exit(m.Run())
}

// child confines itself and prints what it can do then, on threads that were there before and on new ones.
func child(text string) {
	var needs Needs
	if err := json.Unmarshal([]byte(text), &needs); err != nil {
		panic(err)
	}
	if os.Getenv(olderVariable) != "" {
		refuseLandlock()
	}
	const before = 3
	start, answers := make(chan struct{}), make(chan map[string]bool)
	try := func() {
		runtime.LockOSThread()
		answers <- attempts(needs)
	}
	for range before {
		up := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(up)
			<-start
			try()
		}()
		<-up
	}
	if err := To(needs); err != nil {
		panic(err)
	}
	var all []map[string]bool
	for i := range 2 * before {
		if i < before {
			start <- struct{}{}
		} else {
			go try()
		}
		all = append(all, <-answers)
	}
	_ = json.NewEncoder(os.Stdout).Encode(all)
}

// attempts are what somebody who has taken the process over would try, and what it has to be able to.
func attempts(needs Needs) map[string]bool {
	can := make(map[string]bool)
	try := func(what string, err error) { can[what] = err == nil }
	read := func(path string) error {
		_, err := os.ReadFile(path)
		return err
	}
	state := needs.Directories[0]
	outside := filepath.Dir(state)
	replace := func(dir string) error {
		if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o600); err != nil {
			return err
		}
		return os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "old"))
	}
	try("replace a file of the state", replace(filepath.Join(state, "eth0")))
	try("read a file of the state", read(filepath.Join(state, "eth0", "old")))
	try("remove a file of the state", os.Remove(filepath.Join(state, "eth0", "old")))
	for _, file := range needs.Files {
		try("read "+filepath.Base(file), read(file))
	}
	try("read settings", read("/proc/sys/kernel/random/boot_id"))
	try("read its own memory's parts", read("/proc/self/maps"))
	try("read a secret", read(filepath.Join(outside, "secret")))
	try("write a secret", os.WriteFile(filepath.Join(outside, "secret"), nil, 0o600))
	try("make a file outside", os.WriteFile(filepath.Join(outside, "made"), nil, 0o600))
	_, err := os.MkdirTemp(state, "made") // a name for each thread: none can remove it
	try("make a directory of the state", err)
	try("make a link in the state", os.Symlink("/etc/passwd", filepath.Join(state, "link")))
	_ = os.Remove(filepath.Join(state, "link"))
	_ = os.Remove(filepath.Join(outside, "made"))
	try("run a program", exec.Command("/bin/true").Run())
	var header = unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	try("have no capability", errors.Join(unix.Capget(&header, &have[0]), unless(have == [2]unix.CapUserData{})))
	privileges, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	try("get new privileges", errors.Join(err, unless(privileges == 0)))
	return can
}

func unless(ok bool) error {
	if ok {
		return nil
	}
	return errors.New("no")
}

// refuseLandlock makes the kernel one that has not heard of Landlock.
func refuseLandlock() {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_LANDLOCK_CREATE_RULESET},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x50000 | uint32(unix.ENOSYS)}, // SECCOMP_RET_ERRNO
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x7fff0000},                    // SECCOMP_RET_ALLOW
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, 1, 1, uintptr(unsafe.Pointer(&program))); errno != 0 { // SET_MODE_FILTER, TSYNC
		panic(errno)
	}
	runtime.UnlockOSThread()
}

// TestProcessKeepsWhatItNeeds and nothing else, on every thread; without Landlock all of its files.
func TestProcessKeepsWhatItNeeds(t *testing.T) {
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, 1); errno != 0 {
		t.Logf("this kernel has no Landlock (%v): files are not restricted", errno)
		t.Setenv(olderVariable, "1")
	}
	run := func(t *testing.T) []map[string]bool {
		dir := t.TempDir()
		state, etc := filepath.Join(dir, "state"), filepath.Join(dir, "etc")
		for _, d := range []string{filepath.Join(state, "eth0"), filepath.Join(etc, "..data"), filepath.Join(dir, "run")} {
			if err := os.MkdirAll(d, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		for _, file := range []string{"secret", "etc/plain", "etc/..data/mounted", "run/stub"} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for link, target := range map[string]string{"etc/config": "..data/mounted", "etc/resolv": "../run/stub"} {
			if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
				t.Fatal(err)
			}
		}
		needs, err := json.Marshal(Needs{Directories: []string{state}, Files: []string{
			filepath.Join(etc, "plain"), filepath.Join(etc, "config"), filepath.Join(etc, "resolv"),
		}})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), needsVariable+"="+string(needs))
		out, err := cmd.Output()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("%v: %s", err, exit.Stderr)
		}
		var all []map[string]bool
		if err := json.Unmarshal(out, &all); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return all
	}
	needed := []string{
		"replace a file of the state", "read a file of the state", "remove a file of the state", "read plain", "read config", "read resolv",
		"read settings", "read its own memory's parts", "have no capability",
		"make a directory of the state",
	}
	files := []string{
		"read a secret", "write a secret", "make a file outside", "make a link in the state",
		"run a program",
	}
	check := func(t *testing.T, landlock bool) {
		for _, got := range run(t) {
			want := map[string]bool{"get new privileges": false}
			for _, what := range needed {
				want[what] = true
			}
			for _, what := range files {
				want[what] = !landlock
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("a thread can (-want +got):\n%s", diff)
			}
		}
	}
	t.Run("this kernel", func(t *testing.T) { check(t, os.Getenv(olderVariable) == "") })
	t.Run("without Landlock", func(t *testing.T) {
		t.Setenv(olderVariable, "1")
		check(t, false)
	})
}

// TestPlacesOfAFile are its directories, or the file itself where nobody can replace it.
func TestPlacesOfAFile(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "b", "file"), nil, 0o600), os.Symlink("../b/file", filepath.Join(dir, "a", "link"))); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"b/file": "b", "a/link": "a b", "a/none": "a", "none/none": "none"} {
		places, err := readable(filepath.Join(dir, file))
		if err != nil {
			t.Error(err)
		}
		for i, p := range places {
			places[i], _ = filepath.Rel(dir, p)
		}
		if got := strings.Join(places, " "); got != want {
			t.Errorf("%s: %s, want %s", file, got, want)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		at := strings.Fields(line)[4]
		if info, err := os.Lstat(at); err == nil && info.Mode().IsRegular() {
			if places, err := readable(at); err != nil || len(places) != 1 || places[0] != at {
				t.Errorf("%s is mounted, and its places are %v, %v", at, places, err)
			}
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			t.Log(err)
		}
	}
}
