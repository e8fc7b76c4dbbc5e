package doctor

// check is one thing to look at.
type check struct {
	name string
	// pod: it is about a pod, and means nothing in the machine's own namespace.
	pod    bool
	run    func(*visit) outcome
	remedy string // unless the outcome has its own
}

// checks are in the order in which things would fail.
var checks = []check{
	{"kernel", false, (*visit).kernel, "use Linux 5.14 or newer"},
	{"capabilities", false, (*visit).capabilities, "add them to the container (securityContext.capabilities.add, as uid 0)"},
	{"tun", false, (*visit).tun, "mount /dev/net/tun into the container and allow the device"},
	{"link-kinds", false, (*visit).linkKinds, "load the modules bridge and veth on the node"},
	{"nftables", false, (*visit).nftables, "load the module nf_tables with the bridge family on the node (CONFIG_NF_TABLES_BRIDGE)"},
	{"state-dir", false, (*visit).stateDir, "mount something writable there (an emptyDir will do), or name another with --state-dir"},
	{"kvm", false, (*visit).kvm, "use a machine whose virtualization works, or take /dev/kvm away and use <domain type='qemu'>"},
	{"libvirt", false, (*visit).reachLibvirt, "start libvirtd or virtqemud in this container, or name another with --connect"},
	{"hook", false, (*visit).hook, "make it executable (chmod +x), or remove it"},
	{"pod", true, (*visit).shape, "name the pod's interface with --interface"},
	{"wiring", true, (*visit).wiring, "run `podnic prepare` to mend it"},
	{"resolver", true, (*visit).resolver, "name servers that the guest can reach with --dns"},
	{"mtu", true, (*visit).mtu, "give all links of the wiring the pod's MTU (`podnic prepare` does)"},
	{"mac", true, (*visit).mac, "give the guest the pod's MAC: leave <mac> out of the domain's interface, or write the pod's"},
	{"iptables", true, (*visit).iptables, "set net.bridge.bridge-nf-call-iptables=0 (and …-ip6tables) in the pod, or keep what makes these rules out of it (a service mesh's injection, for one)"},
	{"libvirt-network", true, (*visit).libvirtNetwork, "virsh net-destroy default; virsh net-autostart --disable default"},
	{"ports", true, (*visit).ports, "have the CNI plugin set net.ipv4.ip_unprivileged_port_start=0 in the pod, or use --socket packet"},
	{"martians", true, (*visit).martians, "have the CNI plugin set net.ipv4.conf.all.accept_local=1 in the pod, or use --socket packet"},
}
