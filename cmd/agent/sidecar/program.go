package sidecar

import (
	"encoding/json"
	"fmt"
	"os"
	"syscall"

	"github.com/podnic/podnic/domain/kubevirt"
	"github.com/podnic/podnic/network/plan"
)

// Start makes this process the program podnic-sidecar. It returns only when it cannot.
func Start(r Request) error {
	program, err := kubevirt.Program()
	if err != nil {
		return &plan.RefusalError{Reason: err}
	}
	request, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("start podnic-sidecar: %w", err)
	}
	environment := os.Environ()
	if _, set := os.LookupEnv("GOMAXPROCS"); !set {
		// A guest's packets and a call now and then are work for one processor, and what the runtime keeps for each of the
		// others is a seventh of an idle sidecar's memory, on machines with two of them.
		environment = append(environment, "GOMAXPROCS=1")
	}
	if err := syscall.Exec(program, []string{program, string(request)}, environment); err != nil {
		return plan.Refuse("start %s: %w: install the podnic-sidecar that was built for this system", program, err)
	}
	return nil
}
