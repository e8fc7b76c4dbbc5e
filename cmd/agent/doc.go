// Package agent composes the parts of podnic into what its commands do: wiring from package network, the DHCP server from
// package dhcp, the guest from package domain. It keeps the small file by which `podnic status` and probes know how far
// things are. It makes no network change and builds no packet itself.
package agent
