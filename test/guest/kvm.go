package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/podnic/podnic/test/internal/cache"
)

// kvmTime is how long the guest may take until its first line under KVM. Where KVM works that is half a second, on nested
// virtualization two; where it does not, guests hang.
const kvmTime = 5 * time.Second

// KVM reports whether the machine's hardware virtualization really runs guests: a /dev/kvm that opens proves little. The
// guest is booted once to find out; the answer is kept in the cache until the machine boots again.
func KVM(ctx context.Context) (bool, error) {
	file, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false, nil
	}
	file.Close()

	answer, err := kvmAnswer()
	if err != nil {
		return false, err
	}
	switch known, err := os.ReadFile(answer); {
	case err == nil:
		return string(known) == "works", nil
	case !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	works, err := tryKVM(ctx)
	if err != nil {
		return false, fmt.Errorf("find out whether KVM works: %w", err)
	}
	text := "hangs"
	if works {
		text = "works"
	}
	return works, os.WriteFile(answer, []byte(text), 0o644)
}

// kvmAnswer is the file in the cache that holds this boot's answer.
func kvmAnswer() (string, error) {
	dir, err := cache.Dir()
	if err != nil {
		return "", err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "kvm-"+strings.TrimSpace(string(boot))), nil
}

// tryKVM boots the guest and waits for its first line.
func tryKVM(ctx context.Context) (works bool, err error) {
	dir, err := os.MkdirTemp("", "podnic-kvm-")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	image, err := Build(dir)
	if err != nil {
		return false, err
	}
	path := filepath.Join(dir, "console")
	console, err := Follow(path)
	if err != nil {
		return false, err
	}
	defer console.Close()

	qemu := Machine{Image: image, KVM: true, Serial: []string{path}}.Command(context.Background())
	if err := qemu.Start(); err != nil {
		return false, err
	}
	try, cancel := context.WithTimeout(ctx, kvmTime)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		// A QEMU that ends, because it finds no use for /dev/kvm, ends the wait as well. Its status tells nothing more.
		_ = qemu.Wait()
		cancel()
		close(ended)
	}()
	_, hung := console.Wait(try, "guest: up")
	_ = qemu.Process.Kill() // fails only when it has ended
	<-ended
	return hung == nil, ctx.Err()
}
