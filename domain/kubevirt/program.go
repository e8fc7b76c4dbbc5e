package kubevirt

import (
	"fmt"

	"github.com/podnic/podnic/domain/internal/beside"
)

// programName is the program that gRPC is linked with.
const programName = "podnic-sidecar"

// Program is the path of podnic-sidecar.
func Program() (string, error) {
	path, err := beside.Locate(programName)
	if err != nil {
		return "", fmt.Errorf("podnic's sidecar program is missing: %w: install podnic-sidecar beside podnic", err)
	}
	return path, nil
}
