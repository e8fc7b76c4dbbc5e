package holding

import (
	"os"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
)

// testNamespace is an empty one.
type testNamespace struct{ ns.NetNS }

func newNamespace(t *testing.T) testNamespace {
	t.Helper()
	if os.Getuid() != 0 || os.Getenv("PODNIC_UNIT") != "" {
		t.Skip("makes network namespaces, and so needs root and more than unit tests wanted")
	}
	n, err := ns.TempNetNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return testNamespace{n}
}

func (n testNamespace) Do(f func() error) error {
	return n.NetNS.Do(func(ns.NetNS) error { return f() })
}

func (n testNamespace) String() string { return n.Path() }
