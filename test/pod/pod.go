package pod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
	types "github.com/containernetworking/cni/pkg/types/100"
)

// Interface is the name that a pod's interface has.
const Interface = "eth0"

// Spec says what a pod shall be. The zero values are fine but for Name and Network.
type Spec struct {
	// Name of the pod, unique on its node.
	Name    string
	Network Network
	// Hostname is what programs in the pod see; empty means Name.
	Hostname string
	// Resolver is the text of /etc/resolv.conf; empty means [Resolver], with the name servers of the network's families.
	Resolver string
}

// Resolver is what a pod's /etc/resolv.conf usually says.
const Resolver = `search default.svc.cluster.local svc.cluster.local cluster.local
nameserver 10.96.0.10
options ndots:5
`

// Pod is a namespace with an interface that a CNI plugin made.
type Pod struct {
	*Namespace
	// Hostname is what programs in the pod see.
	Hostname string
	// Dir is an empty directory for the pod's files. It goes when the pod goes.
	Dir string
	// Result is the plugin's answer to CNI ADD; nil for a pod that was attached by hand.
	Result *types.Result
	// Address is the pod's IPv4 address with the prefix length that the plugin named; by hand, as a /32. Address6 is that of
	// IPv6. What the network does not have is not valid.
	Address, Address6 netip.Prefix
	// Gateway is the next hop of the pod's default route, if a plugin made it, and Gateway6 that of IPv6's.
	Gateway, Gateway6 netip.Addr
	// HostLink is the node's end of the pod's veth.
	HostLink string

	node    *Node
	files   string
	config  *libcni.NetworkConfigList
	runtime *libcni.RuntimeConf
	further []attachment
}

// attachment is an interface besides the first.
type attachment struct {
	config  *libcni.NetworkConfigList
	runtime *libcni.RuntimeConf
}

// Attach has a plugin make a further interface, as Multus does, from its configuration.
func (p *Pod) Attach(ctx context.Context, iface string, plugin map[string]any) (*types.Result, error) {
	if ipam, there := plugin["ipam"].(map[string]any); there && ipam["type"] == "host-local" {
		ipam["dataDir"] = filepath.Join(p.node.dir, "ipam")
	}
	text, err := json.Marshal(map[string]any{"cniVersion": cniVersion, "name": iface, "plugins": []any{plugin}})
	if err != nil {
		return nil, err
	}
	config, err := libcni.NetworkConfFromBytes(text)
	if err != nil {
		return nil, err
	}
	a := attachment{config, &libcni.RuntimeConf{ContainerID: p.Name, NetNS: p.Path, IfName: iface}}
	var result *types.Result
	err = p.node.Do(func() error {
		answer, err := p.node.cni.AddNetworkList(ctx, a.config, a.runtime)
		if err == nil {
			p.further = append(p.further, a)
			result, err = types.NewResultFromResult(answer)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("pod %s: CNI ADD of %s: %w", p.Name, iface, err)
	}
	return result, p.Settle(ctx)
}

// AddPod makes a pod on the node and returns once its addresses can be used.
func (n *Node) AddPod(ctx context.Context, spec Spec) (*Pod, error) {
	p, err := n.addPod(ctx, spec)
	if err != nil {
		if p != nil {
			err = errors.Join(err, p.Close())
		}
		return nil, fmt.Errorf("pod %s: %w", spec.Name, err)
	}
	n.pods = append(n.pods, p)
	return p, nil
}

// addPod returns a pod along with an error when there is something to undo.
func (n *Node) addPod(ctx context.Context, spec Spec) (*Pod, error) {
	name := n.Name + "-" + spec.Name
	p := &Pod{node: n, Hostname: spec.Hostname, files: filepath.Join(n.dir, "pod-"+spec.Name)}
	p.Dir = filepath.Join(p.files, "dir")
	if p.Hostname == "" {
		p.Hostname = spec.Name
	}
	resolver := spec.Resolver
	if resolver == "" {
		resolver = Resolver
		const server, server6 = "nameserver 10.96.0.10\n", "nameserver fd00:10:96::a\n"
		switch {
		case !spec.Network.Subnet6.IsValid():
		case spec.Network.Subnet.IsValid():
			resolver = strings.Replace(resolver, server, server+server6, 1)
		default:
			resolver = strings.Replace(resolver, server, server6, 1)
		}
	}

	var err error
	if p.config, err = spec.Network.config(filepath.Join(n.dir, "ipam")); err != nil {
		return nil, err
	}
	if p.Namespace, err = newNamespace(name); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(p.Dir, 0o755); err != nil {
		return p, err
	}
	if spec.Network.OnUplink() {
		if err := p.trustAddresses(); err != nil {
			return p, err
		}
	}
	attach := p.attach
	if p.config == nil {
		attach = func(ctx context.Context) error { return p.attachByHand(ctx, spec) }
	}
	if err := attach(ctx); err != nil {
		return p, err
	}
	if err := p.writeEtc(resolver); err != nil {
		return p, err
	}
	return p, p.Settle(ctx)
}

// trustAddresses has the kernel detect no duplicates of IPv6 addresses, for whose end plugins wait some seconds.
func (p *Pod) trustAddresses() error {
	return p.Do(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0) })
}

// attach has the plugin make the interface. Plugins take the namespace that they run in for the node's.
func (p *Pod) attach(ctx context.Context) error {
	p.runtime = &libcni.RuntimeConf{ContainerID: p.Name, NetNS: p.Path, IfName: Interface}
	return p.node.Do(func() error {
		answer, err := p.node.cni.AddNetworkList(ctx, p.config, p.runtime)
		if err != nil {
			return fmt.Errorf("CNI ADD: %w", err)
		}
		if p.Result, err = types.NewResultFromResult(answer); err != nil {
			return fmt.Errorf("CNI ADD: %w", err)
		}
		return p.readResult()
	})
}

func (p *Pod) readResult() error {
	for _, ip := range p.Result.IPs {
		address, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			continue
		}
		bits, _ := ip.Address.Mask.Size()
		prefix := netip.PrefixFrom(address.Unmap(), bits)
		gateway, _ := netip.AddrFromSlice(ip.Gateway)
		if prefix.Addr().Is4() {
			p.Address, p.Gateway = prefix, gateway.Unmap()
		} else {
			p.Address6, p.Gateway6 = prefix, gateway
		}
	}
	if !p.Address.IsValid() && !p.Address6.IsValid() {
		return errors.New("CNI ADD gave the pod no address")
	}
	for _, link := range p.Result.Interfaces {
		// The bridge plugin lists its bridge as well, before the veth.
		if link.Sandbox == "" {
			p.HostLink = link.Name
		}
	}
	return nil
}

// Etc is the directory of the pod's own files of /etc.
func (p *Pod) Etc() string { return filepath.Join(p.files, "etc") }

// writeEtc makes what a kubelet makes. Without its own name in hosts, a program that looks itself up waits for a name server
// that is not there.
func (p *Pod) writeEtc(resolver string) error {
	if err := os.Mkdir(p.Etc(), 0o755); err != nil {
		return err
	}
	hosts := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	for _, address := range []netip.Prefix{p.Address, p.Address6} {
		if address.IsValid() {
			hosts += fmt.Sprintf("%s\t%s\n", address.Addr(), p.Hostname)
		}
	}
	return errors.Join(
		os.WriteFile(filepath.Join(p.Etc(), "resolv.conf"), []byte(resolver), 0o644),
		os.WriteFile(filepath.Join(p.Etc(), "hosts"), []byte(hosts), 0o644),
	)
}

// Close detaches the pod and removes it with all that runs in it. Closing twice is no error.
func (p *Pod) Close() error {
	var err error
	for _, a := range p.further {
		err = errors.Join(err, p.node.Do(func() error { return p.node.cni.DelNetworkList(context.Background(), a.config, a.runtime) }))
	}
	p.further = nil
	if p.runtime != nil {
		// Cleaning up must also work after the context that made the pod has ended.
		failed := p.node.Do(func() error {
			return p.node.cni.DelNetworkList(context.Background(), p.config, p.runtime)
		})
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("CNI DEL of %s: %w", p.Name, failed))
		}
		p.runtime = nil
	}
	return errors.Join(err, p.Namespace.Close(), os.RemoveAll(p.files))
}
