package domain

import (
	"net/url"
	"os"
	"strings"
)

// sockets are the unix sockets on which the daemon of a URI listens, for an error that says where nobody did: the modular
// daemon's, which libvirt's client tries first, and that of libvirtd (https://libvirt.org/daemons.html, "modes" in
// https://libvirt.org/uri.html). None for what is not reached by a local socket.
func sockets(uri string) []string {
	u, err := url.Parse(uri)
	if err != nil || u.Host != "" {
		return nil
	}
	driver, transport, _ := strings.Cut(u.Scheme, "+")
	if driver == "test" || transport != "" && transport != "unix" {
		return nil
	}
	if socket := u.Query().Get("socket"); socket != "" {
		return []string{socket}
	}
	directory := "/var/run/libvirt"
	if u.Path == "/session" {
		directory = os.Getenv("XDG_RUNTIME_DIR") + "/libvirt"
	}
	if driver == "" {
		return []string{directory + "/libvirt-sock"}
	}
	return []string{directory + "/virt" + driver + "d-sock", directory + "/libvirt-sock"}
}
