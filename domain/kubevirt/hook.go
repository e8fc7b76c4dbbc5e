package kubevirt

import "context"

// Callbacks is what a launcher may ask of a sidecar. Whatever version of the protocol the call came in, it comes here.
type Callbacks interface {
	// OnDefineDomain returns the domain's XML with podnic's interfaces in it. It is called two or three times for a start
	// and once on the target of a migration, and not every result is used.
	OnDefineDomain(ctx context.Context, xml, vmi []byte) ([]byte, error)
	// Shutdown says that the guest has ended, and returns at once.
	Shutdown()
}

// Socket is where a sidecar is to be found.
type Socket struct {
	// Dir is the directory that the launcher looks in.
	Dir string
	// Name is the file. The launcher tells sidecars apart by it alone.
	Name string
}

// Serve answers the launcher's calls on a socket until the context ends. ready is called once it can be found.
type Serve func(ctx context.Context, socket Socket, callbacks Callbacks, ready func()) error
