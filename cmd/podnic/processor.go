package main

import (
	"os"
	"runtime"

	"github.com/podnic/podnic/cmd/agent/detached"
	"golang.org/x/sys/unix"
)

// onOneProcessor starts this program again with GOMAXPROCS=1, unless the environment has it already. A server answers one
// guest, one message at a time: with a second processor the runtime wakes a second thread for each message, which takes
// longer than the answer, and what it keeps for each processor is a quarter of the server's memory on a machine with
// two. The runtime makes that at its start, so that it is too late to tell it now.
//
// It costs 1 ms. Nothing is parsed yet, so whether the command is the right one is a guess, and a wrong one does no harm.
func onOneProcessor() {
	if os.Getenv(detached.Processors) != "" {
		return
	}
	if program, err := os.Executable(); err == nil {
		_ = unix.Exec(program, os.Args, append(os.Environ(), detached.Processors+"=1"))
	}
	runtime.GOMAXPROCS(1) // the file may be gone
}
