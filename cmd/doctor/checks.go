package doctor

// check is one thing to look at.
type check struct {
	name string
	// about says what it looks at. What is about a pod means nothing in the machine's own namespace.
	about  scope
	run    func(*visit) outcome
	remedy string // unless the outcome has its own
}

// scope is what a check looks at.
type scope int

const (
	theMachine scope = iota
	thePod
	anInterface // of the pod's
)

// checks are in the order in which things would fail.
var checks = []check{
	{"kernel", theMachine, (*visit).kernel, "use Linux 5.14 or newer"},
	{"capabilities", theMachine, (*visit).capabilities, "add them to the container (securityContext.capabilities.add, as uid 0)"},
	{"tun", theMachine, (*visit).tun, "mount /dev/net/tun into the container and allow the device"},
	{"link-kinds", theMachine, (*visit).linkKinds, "load the modules bridge and veth on the node"},
	{"nftables", theMachine, (*visit).nftables, "load the module nf_tables with the bridge family on the node (CONFIG_NF_TABLES_BRIDGE)"},
	{"state-dir", theMachine, (*visit).stateDir, "mount something writable there (an emptyDir will do), or name another with --state-dir"},
	{"kvm", theMachine, (*visit).kvm, "use a machine whose virtualization works, or take /dev/kvm away and use <domain type='qemu'>"},
	{"libvirt", theMachine, (*visit).reachLibvirt, "start libvirtd or virtqemud in this container, or name another with --connect"},
	{"hook", theMachine, (*visit).hook, "make it executable (chmod +x), or remove it"},
	{"pod", anInterface, (*visit).shape, ""}, // each refusal has its own
	{"wiring", anInterface, (*visit).wiring, "run `podnic prepare` to mend it"},
	{"resolver", anInterface, (*visit).resolver, "name servers that the guest can reach with --dns"},
	{"mtu", anInterface, (*visit).mtu, "give all links of the wiring the pod's MTU (`podnic prepare` does)"},
	{"ipv6", anInterface, (*visit).ipv6, "restart podnic soon after it ends, or give the gateway a link-local address that it answers for"},
	{"mac", anInterface, (*visit).mac, "give the guest the pod's MAC: leave <mac> out of the domain's interface, or write the pod's"},
	{"iptables", thePod, (*visit).iptables, "set net.bridge.bridge-nf-call-iptables=0 (and …-ip6tables) in the pod, or keep what makes these rules out of it (a service mesh's injection, for one)"},
	{"libvirt-network", thePod, (*visit).libvirtNetwork, "virsh net-destroy default; virsh net-autostart --disable default"},
	{"ports", thePod, (*visit).ports, "have the CNI plugin set net.ipv4.ip_unprivileged_port_start=0 in the pod, or use --socket packet"},
	{"martians", thePod, (*visit).martians, "have the CNI plugin set net.ipv4.conf.all.accept_local=1 in the pod, or use --socket packet"},
}
