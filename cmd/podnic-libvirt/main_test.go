//go:build cgo && libvirt_dlopen

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

const mainVariable = "PODNIC_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestOnlyPodnicEndsIt: a signal to all processes of a pod reaches the helper, too, which is still needed then.
func TestOnlyPodnicEndsIt(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	helper := exec.Command(path)
	helper.Env = append(os.Environ(), mainVariable+"=1")
	in, err := helper.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := helper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	expect := func(want string) {
		t.Helper()
		if got, err := lines.ReadString('\n'); err != nil || strings.TrimSpace(got) != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
	expect(`{"protocol":"podnic-libvirt protocol 4"}`)
	fmt.Fprintln(in, `{"id":9,"call":"connect","uri":"test:///default"}`)
	expect(`{"response":{"id":9}}`)
	for id, s := range []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		if err := helper.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(in, "{\"id\":%d,\"call\":\"find\",\"name\":\"vm\"}\n", id)
		expect(fmt.Sprintf(`{"response":{"id":%d}}`, id))
	}
	in.Close()
	if err := helper.Wait(); err != nil {
		t.Error(err)
	}
}
