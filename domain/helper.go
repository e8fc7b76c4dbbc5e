package domain

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"syscall"
	"time"

	"github.com/podnic/podnic/domain/internal/beside"
	"github.com/podnic/podnic/domain/internal/wire"
	"go.uber.org/zap"
	"go.uber.org/zap/zapio"
)

// helperName is the program that libvirt's client library is linked with.
const helperName = "podnic-libvirt"

// drain is how long the helper's last words may take to arrive when a process that it started holds them up.
const drain = time.Second

// helper starts podnic-libvirt: a process for each connection, so that none inherits what went wrong in another.
type helper struct {
	locate func() (path string, err error)
	log    *zap.Logger
}

func (h helper) dial(ctx context.Context, uri string, deliver func(event)) (conn, error) {
	path, err := h.locate()
	if err != nil {
		return nil, permanentError{err, "install podnic-libvirt beside podnic, or use the podnic-launcher image: " +
			"podnic itself is built without libvirt"}
	}
	p, err := h.start(path, deliver)
	if err != nil {
		return nil, err
	}
	// libvirt's own attempt has no bound.
	release := context.AfterFunc(ctx, p.kill)
	_, err = p.call(wire.Request{Call: wire.Connect, URI: uri})
	if !release() {
		err = ctx.Err()
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// start starts the program.
func (h helper) start(path string, deliver func(event)) (*process, error) {
	log := &zapio.Writer{Log: h.log.Named(helperName), Level: zap.WarnLevel}
	cmd := exec.Command(path)
	cmd.Stderr = log
	cmd.WaitDelay = drain
	// A terminal's ^C is for podnic, which still needs its helper to shut the guest down.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", path, err), in.Close())
	}
	switch err := cmd.Start(); {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOEXEC):
		// A file that is there and does not exist lacks its dynamic loader.
		return nil, permanentError{fmt.Errorf("start podnic's helper: %w", err), "install the podnic-libvirt that was built for this system"}
	case err != nil:
		return nil, fmt.Errorf("start podnic's helper: %w", err)
	}
	p := newProcess(cmd, in, deliver)
	go func() {
		defer close(p.ended)
		p.follow(out)
		_ = log.Close() // an unfinished line
	}()
	return p, nil
}

// HelperMissing is why there is no connection to be had: the program that makes them is not installed. nil where it is.
func HelperMissing() error { _, err := locateHelper(); return err }

// locateHelper looks for podnic-libvirt where it may be installed.
func locateHelper() (string, error) { return missing(beside.Locate(helperName)) }

func missing(path string, err error) (string, error) {
	if err != nil {
		return "", fmt.Errorf("podnic's helper for libvirt is missing: %w", err)
	}
	return path, nil
}
