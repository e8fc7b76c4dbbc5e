package domain

import (
	"fmt"

	"github.com/podnic/podnic/domain/domainxml"
	"github.com/podnic/podnic/domain/internal/wire"
)

// Version says what is at the other end of the connection: "libvirt 9.0.0, QEMU 7.2.22".
func (c *Connection) Version() (string, error) {
	s, err := c.conn()
	if err != nil {
		return "", err
	}
	daemon, err := s.version()
	if err != nil {
		return "", fmt.Errorf("ask libvirt for its version: %w", err)
	}
	return describeDaemon(daemon), nil
}

func describeDaemon(d *wire.Daemon) string {
	text := "libvirt " + version(d.Libvirt) + ", " + d.Driver
	if d.Hypervisor != 0 {
		text += " " + version(d.Hypervisor)
	}
	return text
}

// version writes one of libvirt's numbers (virConnectGetLibVersion) as people do.
func version(number uint32) string {
	return fmt.Sprintf("%d.%d.%d", number/1_000_000, number/1000%1000, number%1000)
}

// Document is the XML of the running domain of that name; nil when there is none.
func (c *Connection) Document(name string) (*domainxml.Document, error) {
	s, err := c.conn()
	if err != nil {
		return nil, err
	}
	found, err := s.find(name)
	if found == nil || err != nil {
		return nil, err
	}
	return domainxml.Parse(found.xml)
}
