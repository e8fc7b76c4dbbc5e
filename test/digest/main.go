// Command digest makes what go test -json prints fit for people who see the end of a log alone.
//
//	go test -json … | tee LOG | digest -follow     the result of each package, and the name of each test that fails, at once
//	digest [-no-skip] LOG…                         what failed and why, or else what was skipped
//
// Of tests that passed nothing is printed. Of those that failed, first everything that they said, and last, and short, the
// first lines of what they failed with. It runs in the module's directory. It exits with status 1 if a test or package failed, or, with -no-skip, if one was skipped.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	follow := flag.Bool("follow", false, "print results from standard input as they come")
	noSkip := flag.Bool("no-skip", false, "a skipped test is a failure")
	flag.Parse()
	if *follow {
		l := log{tell: func(line string) { fmt.Println(line) }}
		if err := l.read(os.Stdin); err != nil {
			fatal(err)
		}
		return
	}

	var l log
	for _, name := range flag.Args() {
		f, err := os.Open(name)
		if err == nil {
			err = l.read(f)
		}
		if err != nil {
			fatal(err)
		}
		f.Close()
	}
	if !l.report(os.Stdout, *noSkip) {
		os.Exit(1)
	}
}

func fatal(err error) {
	// Whoever writes into the pipe has to be able to go on.
	_, _ = io.Copy(io.Discard, os.Stdin)
	fmt.Fprintln(os.Stderr, "digest:", err)
	os.Exit(1)
}
