package main

import (
	"io"
	"os"

	"github.com/podnic/podnic/cmd/agent/logs"
	"golang.org/x/sys/unix"
)

// colorful reports whether colours are understood and wanted (https://no-color.org).
func colorful(w io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && logs.IsTerminal(w)
}

// rows is how many lines a terminal has; 0 where it does not say.
func rows(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Row)
}
