package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/podnic/podnic/test/podtest"
)

// TestDemoWithoutLibvirt shows what `make demo DEMO_VMM=qemu` shows. What it does with libvirt, `make demo` runs.
func TestDemoWithoutLibvirt(t *testing.T) {
	podtest.NeedRoot(t)
	path := filepath.Join(t.TempDir(), "screen")
	screen, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer screen.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*podtest.Patience)
	defer cancel()
	err = show(ctx, screen, podtest.Program(t), false, true)
	text, _ := os.ReadFile(path)
	shown := strings.Join(strings.Fields(string(text)), " ")
	for _, words := range []string{
		"podnic run -- qemu-system-x86_64", "ms wired", "ms command started", "ms lease", "hello from the guest", "exit status 0", "all as before",
	} {
		if err == nil && !strings.Contains(shown, words) {
			t.Errorf("it does not show %q", words)
		}
	}
	if err != nil || t.Failed() {
		t.Errorf("%v\n%s", err, text)
	}
}
