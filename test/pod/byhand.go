package pod

import (
	"context"
	"fmt"
	"net/netip"
)

// attachByHand makes the veth pair and runs the network's scripts.
func (p *Pod) attachByHand(ctx context.Context, spec Spec) error {
	scripts := spec.Network.Scripts
	p.HostLink = "veth-" + spec.Name
	number := byte(0xfe)
	address := ""
	if a := scripts.Address; a.IsValid() {
		p.Address = netip.PrefixFrom(a, a.BitLen())
		address, number = a.String(), a.AsSlice()[a.BitLen()/8-1]
	}
	mac := fmt.Sprintf("0a:58:0a:f4:01:%02x", number)
	mtu := "1500"
	if spec.Network.MTU != 0 {
		mtu = fmt.Sprint(spec.Network.MTU)
	}
	if _, err := p.Output(ctx, "ip", "link", "add", Interface, "address", mac, "mtu", mtu, "type", "veth",
		"peer", "name", p.HostLink, "mtu", mtu, "netns", p.node.Name); err != nil {
		return err
	}
	for _, part := range []struct {
		in     *Namespace
		script string
	}{{p.node.Namespace, scripts.Node}, {p.Namespace, scripts.Pod}} {
		if _, err := part.in.Output(ctx, "env", "LINK="+p.HostLink, "POD="+p.Name, "ADDRESS="+address,
			fmt.Sprint("NUMBER=", number), "MAC="+mac, "sh", "-e", "-c", part.script); err != nil {
			return err
		}
	}
	return nil
}
