package logs

import (
	"os"

	"github.com/podnic/podnic/network/statedir"
)

// Open opens a log to append to. It belongs to no interface.
func Open(stateDir, name string) (*os.File, error) {
	d, err := statedir.Make(stateDir, statedir.Own)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Append(name)
}
