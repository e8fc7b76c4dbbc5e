package network

import (
	"errors"
	"fmt"
	"os"

	"github.com/podnic/podnic/network/internal/rtnl"
	"golang.org/x/sys/unix"
)

// OpenTap opens the tap of a wiring, once for each of its queues, for a program that is started with the descriptors. While one of
// them is open, the tap counts as held.
func OpenTap(req Request, tap string, queues int) ([]*os.File, error) {
	ns, err := OpenNamespace(req.Namespace)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	files, err := rtnl.OpenTap(ns, tap, queues)
	if errors.Is(err, unix.EBUSY) {
		err = fmt.Errorf("%w: another process holds it", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open the tap %s: %w", tap, err)
	}
	return files, nil
}
