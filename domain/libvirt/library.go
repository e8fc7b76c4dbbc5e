//go:build cgo && libvirt_dlopen

package libvirt

import (
	"sync"
	"time"

	"libvirt.org/go/libvirt"
)

// startEventLoop starts libvirt's own, which the client library needs for events, the close callback and keep-alive. There is
// one for the process, it must be registered before the first connection is made, and it cannot be ended.
var startEventLoop = sync.OnceValue(func() error {
	if err := libvirt.EventRegisterDefaultImpl(); err != nil {
		return err
	}
	go func() {
		for {
			if libvirt.EventRunDefaultImpl() != nil {
				// poll(2) failed, for want of memory: the next round may do better, but should not come at once.
				time.Sleep(time.Second)
			}
		}
	}()
	return nil
})

// resolve makes the binding look up the library's functions that are called concurrently. It does so when one is first
// called, and a second caller that comes at that moment is told that there is no such function. Called with nothing, each
// of them returns an error, and the functions that fetch the error are looked up as well.
var resolve = sync.OnceFunc(func() {
	var (
		c libvirt.Connect
		d libvirt.Domain
	)
	_, _ = c.DomainCreateXML("", libvirt.DOMAIN_NONE)
	_, _ = c.LookupDomainByName("")
	_, _ = c.LookupDomainByUUIDString("")
	_, _ = d.GetUUIDString()
	_, _, _ = d.GetState()
	_, _ = d.GetXMLDesc(0)
	_ = d.UpdateDeviceFlags("", 0)
	_ = d.AttachDeviceFlags("", 0)
	_ = d.DetachDeviceAlias("", 0)
	_ = d.Shutdown()
	_ = d.Destroy()
	_ = d.Free()
})
