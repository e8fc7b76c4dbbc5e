package pod

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"

	"github.com/podnic/podnic/test/internal/cache"
)

// Node is the namespace that stands for a Kubernetes node, and the pods on it.
type Node struct {
	*Namespace
	dir  string // what plugins write, and a directory for each pod
	cni  *libcni.CNIConfig
	pods []*Pod
	more []*Namespace

	sharesDir bool // it is counted where the directory of namespaces is a mount
}

// NewNode makes a node that forwards IPv4 and has no pod yet. The CNI plugins are those that `make cni` built.
func NewNode(ctx context.Context) (*Node, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("network namespaces need root: run this as root")
	}
	plugins, err := cache.Need("make cni", "cni")
	if err != nil {
		return nil, fmt.Errorf("CNI plugins: %w", err)
	}
	id := make([]byte, 3)
	rand.Read(id)
	name := namePrefix + hex.EncodeToString(id)

	dir, err := os.MkdirTemp("", name+"-")
	if err != nil {
		return nil, err
	}
	n := &Node{
		dir: dir,
		cni: libcni.NewCNIConfigWithCacheDir([]string{plugins}, filepath.Join(dir, "cni"), nil),
	}
	if err = shareNamespaceDir(); err == nil {
		n.sharesDir = true
		n.Namespace, err = newNamespace(name)
	}
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	err = n.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("let %s forward: %w", name, err), n.Close())
	}
	return n, nil
}

// AddPlugins has CNI plugins also be looked for in a directory.
func (n *Node) AddPlugins(dir string) { n.cni.Path = append(n.cni.Path, dir) }

// AddNamespace makes a namespace that goes with the node and has nothing but its loopback: the inside of a guest, say.
func (n *Node) AddNamespace(name string) (*Namespace, error) {
	made, err := newNamespace(n.Name + "-" + name)
	if err == nil {
		n.more = append(n.more, made)
	}
	return made, err
}

// Close removes the pods, last one first, and the node. Closing twice is no error.
func (n *Node) Close() error {
	var err error
	for _, namespace := range n.more {
		err = errors.Join(err, namespace.Close())
	}
	for i := len(n.pods) - 1; i >= 0; i-- {
		err = errors.Join(err, n.pods[i].Close())
	}
	if n.Namespace != nil {
		err = errors.Join(err, n.Namespace.Close())
	}
	if n.sharesDir {
		n.sharesDir = false
		err = errors.Join(err, unshareNamespaceDir())
	}
	return errors.Join(err, os.RemoveAll(n.dir))
}
