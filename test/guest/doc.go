// Package guest makes a small Linux system that boots in a virtual machine, and talks to it.
//
// [Build] joins the distribution's cloud kernel (which scripts/setup unpacks into the cache), its network modules and a
// static busybox to an initramfs whose /init asks for a lease on eth0 as a real client would, obeys it, and tells what it
// does on the serial console, one line an event:
//
//	guest: up
//	guest: lease address=10.244.1.2 mask=32 routes=10.244.1.1/32,0.0.0.0,0.0.0.0/0,10.244.1.1 router=… mtu=1500 hostname=vm-0
//	       dns=10.96.0.10 search=default.svc.cluster.local domain= serverid=10.244.1.1 lease=…     (one line)
//	guest: gateway 10.244.1.1 answers
//	guest: ready
//	guest: power button
//	guest: bye
//
// It then serves HTTP on port 80: GET /hello, and POST /cgi-bin/run, which runs the body as a shell script and answers
// with its output ([Client] speaks it). It goes down when the power button is pressed, which is what libvirt's shutdown
// does.
//
// With the program [DHCPv6Client] among those that [Extra] brings along, it asks for a lease of IPv6 as well:
//
//	guest: lease6 address=fd00:10:244:1::2 router=fe80::… dns=fd00:10:96::a search=default.svc.cluster.local hostname=vm-0…
//
// Kernel arguments change what it does: podnic.static=ADDRESS/BITS,GATEWAY takes that address and no lease,
// podnic.poweroff=SECONDS powers off so long after the guest is ready, podnic.deaf ignores the power button,
// podnic.carrier tells "guest: carrier 1", or 0, whenever that of eth0 has changed.
//
// [BuildWith] makes another guest of it: with more modules, with this machine's programs and with an /init of its own, which
// may play a node; [Machine] boots it without libvirt, and [UserMode] as a process, without a processor to emulate: a guest that is
// quick also where the node is emulated itself.
//
// [Console] follows the serial console, [Domain] is libvirt's XML for the guest, [KVM] finds out whether hardware
// virtualization works here. Nothing here needs root.
package guest
