package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/podnic/podnic/cmd/agent/status"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/probe"
	"github.com/podnic/podnic/network/statedir"
	"golang.org/x/sys/unix"
)

func (v *visit) kernel() outcome {
	release := release()
	// What is missing in an older one is how namespaces are told apart.
	if _, err := v.ns.ID(); err != nil {
		return refusal(Fail, fmt.Errorf("on Linux %s: %w", release, err))
	}
	return ok("Linux %s tells network namespaces apart", release)
}

// release is what uname(2) says; it cannot fail.
func release() string {
	var name unix.Utsname
	_ = unix.Uname(&name)
	return unix.ByteSliceToString(name.Release[:])
}

// capabilities are all needed by prepare. Of what is wired already, the server needs NET_RAW, and none with a UDP socket.
func (v *visit) capabilities() outcome {
	lacking, err := probe.LackingCapabilities()
	if err != nil {
		return unknown("%v", err)
	}
	wired := len(v.wiredOnes()) > 0
	names := "CAP_" + strings.Join(lacking, " and CAP_")
	switch {
	case len(lacking) == 0:
		return ok("this process has CAP_NET_ADMIN and CAP_NET_RAW")
	case wired && v.allByUDP():
		return ok("this process lacks %s, and serving with a UDP socket needs none", names)
	case wired && !slices.Contains(lacking, "NET_RAW"):
		return warn("this process lacks %s: it can serve, but neither mend nor restore", names)
	}
	return fail("this process lacks %s", names)
}

func (v *visit) tun() outcome {
	if len(v.wiredOnes()) > 0 {
		return ok("the tap is there")
	}
	if err := probe.CheckTun(); err != nil {
		return refusal(Fail, err)
	}
	return ok("/dev/net/tun opens")
}

func (v *visit) linkKinds() outcome {
	for _, kind := range probe.LinkKinds {
		switch err := probe.CheckKind(v.ns, kind); {
		case errors.Is(err, probe.ErrHidden):
			return unknown("whether the kernel can make bridges: %v", err).but("run it with CAP_NET_ADMIN")
		case network.IsRefusal(err):
			return refusal(Fail, err)
		case err != nil:
			return unknown("%v", err)
		}
	}
	return ok("the kernel makes links of the kinds %s", strings.Join(probe.LinkKinds, ", "))
}

// nftables: without it, prepare goes on, and warns.
func (v *visit) nftables() outcome {
	switch err := probe.CheckFilter(v.ns); {
	case errors.Is(err, probe.ErrHidden):
		return unknown("whether the kernel has nftables for bridges: %v", err).but("run it with CAP_NET_ADMIN")
	case network.IsRefusal(err):
		return warn("%v", err)
	case err != nil:
		return unknown("%v", err)
	}
	return ok("the kernel has nftables for bridges")
}

// stateDir asks whether the directory can be written, or the nearest one above it that is there, where it would be made.
func (v *visit) stateDir() outcome {
	dir, err := filepath.Abs(v.StateDir)
	if err != nil {
		return unknown("%v", err)
	}
	for at := dir; ; at = filepath.Dir(at) {
		switch info, err := os.Stat(at); {
		case errors.Is(err, fs.ErrNotExist) && at != "/":
			continue
		case err != nil:
			return fail("%v", err)
		case !info.IsDir():
			return fail("%s is not a directory", at)
		}
		// By the effective user, whose files it will be (faccessat2(2)).
		if err := unix.Faccessat(unix.AT_FDCWD, at, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
			return fail("%s cannot be written: %v", at, err)
		}
		if at != dir {
			return ok("%s can be made", dir)
		}
		return v.trusted(dir)
	}
}

// trusted asks whether what lies in the state directory is podnic's own. Where nothing is, it can be made.
func (v *visit) trusted(dir string) outcome {
	names := []string{statedir.Own}
	for _, l := range v.all {
		names = append(names, l.seen.Names.Interface)
	}
	for _, name := range names {
		d, err := statedir.Open(dir, name, status.ReadOnly(v.Request).Others...)
		d.Close()
		if statedir.IsUntrusted(err) {
			return fail("%v, and nothing in it is believed", err).but("find out who put it there; remove it, or name another directory with --state-dir")
		}
	}
	return ok("%s can be written", dir)
}
