package metrics

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]string{
		"unix:/run/podnic/metrics.sock": "unix:/run/podnic/metrics.sock",
		"unix:/run//podnic/../m":        "unix:/run/m",
		"127.0.0.1:9750":                "127.0.0.1:9750",
		"localhost:9750":                "127.0.0.1:9750",
		"[::1]:9750":                    "[::1]:9750",
		"[::ffff:10.0.0.1]:9750":        "10.0.0.1:9750",
		"[fe80::1%net1]:9750":           "[fe80::1%net1]:9750",
		":9750":                         "[::]:9750",
		"0.0.0.0:9750":                  "0.0.0.0:9750",

		"":                 "",
		"9750":             "",
		"unix:metrics":     "",
		"unix:":            "",
		"unix:@podnic":     "",
		"vm.example:9750":  "",
		"10.0.0.1":         "",
		"10.0.0.1:http":    "",
		"10.0.0.1:0":       "",
		"10.0.0.1:65536":   "",
		"http://[::1]:975": "",
	} {
		a, err := ParseAddress(text)
		if (err == nil) != (want != "") || err == nil && a.String() != want {
			t.Errorf("%q is read as %q, %v", text, a, err)
		}
		if err == nil {
			if again, err := ParseAddress(a.String()); err != nil || again != a {
				t.Errorf("%q is not read back: %v, %v", a, again, err)
			}
		}
	}
}

// TestSocketThatWasReplacedIsNotOpened has a link, or a file, in the place of the socket by the time that it is to be opened to
// everybody.
func TestSocketThatWasReplacedIsNotOpened(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, replace := range map[string]func(path string) error{
		"link":  func(path string) error { return os.Symlink(secret, path) },
		"names": func(path string) error { return os.Link(secret, path) },
	} {
		path := filepath.Join(dir, name)
		if err := replace(path); err != nil {
			t.Fatal(err)
		}
		if err := open(path); err == nil {
			t.Errorf("%s: it is taken for the socket", name)
		}
		if info, err := os.Stat(secret); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: the file is open to others: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestOnlyAStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "metrics.sock")
	a := Address{Socket: path}
	first, err := a.Listen()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Listen(); err == nil || !strings.Contains(err.Error(), "somebody listens") {
		t.Errorf("a socket that is in use was taken: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as when the process is killed
	first.Close()
	second, err := a.Listen()
	if err != nil {
		t.Fatalf("a stale socket is in the way: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	second.Close()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Listen(); err == nil {
		t.Error("a file was replaced")
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "mine" {
		t.Errorf("the file is now %q, %v", text, err)
	}
}
