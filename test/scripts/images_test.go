package scripts

import (
	"slices"
	"strings"
	"testing"
)

// TestImagesHaveOneTime is how each engine is told the time of an image's files, of which newer ones want to be told once.
func TestImagesHaveOneTime(t *testing.T) {
	for _, test := range []struct{ engine, epoch, told string }{
		{"podman", "", " --timestamp 0 "},
		{"podman", "1700000000", " --timestamp 1700000000 "},
		{"buildah", "1700000000", " --timestamp 1700000000 "},
		{"docker", "", " SOURCE_DATE_EPOCH=0 "},
		{"docker", "1700000000", " SOURCE_DATE_EPOCH=1700000000 "},
	} {
		t.Run(test.engine+test.epoch, func(t *testing.T) {
			t.Parallel()
			s := newScript(t, "../../scripts/images", "engines", nil)
			s.cmd.Env = append(s.cmd.Env, "WORKS="+test.engine)
			if test.epoch != "" {
				s.cmd.Env = append(s.cmd.Env, "SOURCE_DATE_EPOCH="+test.epoch)
			}
			s.start()
			s.end(0, "localhost/podnic:dev", "localhost/podnic-launcher:dev", "localhost/podnic-qemu:dev", "localhost/podnic-test:dev")
			for _, call := range s.calls() {
				if !strings.HasPrefix(call, test.engine+" build ") || !strings.Contains(call, test.told) {
					t.Errorf("not a build with%s: %s", test.told, call)
				}
			}
		})
	}
}

// TestImageOfQEMUHasTheProgramOfItsBuild holds the script to it that the one image is made of the other, whatever they are called.
func TestImageOfQEMUHasTheProgramOfItsBuild(t *testing.T) {
	t.Parallel()
	s := newScript(t, "../../scripts/images", "engines", nil)
	s.cmd.Env = append(s.cmd.Env, "WORKS=podman", "IMAGE_PREFIX=registry.example/vm", "IMAGE_TAG=7")
	s.start()
	s.end(0)
	calls := s.calls()
	of := func(parts ...string) int {
		return slices.IndexFunc(calls, func(call string) bool {
			return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(call+" ", " "+part+" ") })
		})
	}
	program := of("--tag registry.example/vm/podnic:7", "--file deploy/Containerfile", "--target podnic")
	image := of("--tag registry.example/vm/podnic-qemu:7", "--file deploy/qemu/Containerfile", "--build-arg PODNIC=registry.example/vm/podnic:7")
	if program < 0 || image < program {
		t.Errorf("calls %d and %d of:\n%s", program, image, strings.Join(calls, "\n"))
	}
}
