package cni

import (
	"fmt"
	"os"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/podnic/podnic/network"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
)

// CommandVariable is the environment variable by which a runtime says what a plugin is to do. Only a plugin finds it set.
const CommandVariable = "CNI_COMMAND"

// Versions of the specification that the plugin speaks: those that know chains of plugins.
var versions = version.PluginSupports("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")

// Main answers one call of a runtime and returns the exit status. The call is in the environment and on standard input,
// the answer on standard output, the log on standard error. Called by hand, it says what it is.
func Main(programVersion string) int {
	notOpened(os.Getenv("CNI_NETNS"))
	err := skel.PluginMainFuncsWithError(skel.CNIFuncs{
		Add: command(add, strict), Del: command(del, byRecord), Check: command(check, strict), GC: command(gc, strict), Status: command(status, strict),
	}, versions, "CNI plugin podnic "+programVersion)
	if err == nil {
		return 0
	}
	if printed := err.Print(); printed != nil {
		fmt.Fprintln(os.Stderr, "podnic:", printed)
	}
	return 1
}

// notOpened keeps skel from opening what is not a network namespace, to compare it with the plugin's own (ns.CheckNetNS): it
// would wait for a fifo. What is wrong with it the commands say.
func notOpened(netns string) {
	if netns == "" {
		return
	}
	ns, err := network.OpenNamespace(netns)
	if err == nil {
		ns.Close()
	} else if network.IsNoNamespace(err) {
		_ = os.Setenv("CNI_NETNS_OVERRIDE", "1") // fails only on an invalid name
	}
}

// call is one call of the runtime.
type call struct {
	*skel.CmdArgs
	config *config
	store  attachments
	log    *zap.Logger
}

// What a command makes of a key whose value it does not take: DEL goes by what is recorded, since a pod whose DEL fails cannot be
// deleted. GC must know which attachments are valid.
const (
	strict   = false
	byRecord = true
)

// command decodes a call, and gives its error a code.
func command(do func(*call) error, lenient bool) func(*skel.CmdArgs) error {
	return func(args *skel.CmdArgs) error {
		var left []error
		c, err := parse(args.StdinData, func(err error) error {
			if !lenient {
				return err
			}
			left = append(left, err)
			return nil
		})
		if err != nil {
			return err
		}
		log, done := c.logger()
		defer done()
		for _, err := range left {
			log.Warn("a key of the network configuration is left out", zap.Error(err))
		}
		if args.ContainerID != "" {
			log = log.With(zap.String("container", args.ContainerID), zap.String("ifname", args.IfName), podOf(args.Args))
		}
		return asError(do(&call{CmdArgs: args, config: c, store: attachments{c.StateDir}, log: log}))
	}
}

// podOf is the pod's name as Kubernetes' runtimes pass it on, for the log.
func podOf(args string) zap.Field {
	names := make(map[string]string)
	for _, pair := range strings.Split(args, ";") {
		name, value, _ := strings.Cut(pair, "=")
		names[name] = value
	}
	if names["K8S_POD_NAME"] == "" {
		return zap.Skip()
	}
	return zap.String("pod", names["K8S_POD_NAMESPACE"]+"/"+names["K8S_POD_NAME"])
}

// logger writes JSON to the file of the configuration, or to standard error, which runtimes keep. No call fails for the
// lack of a log.
func (c *config) logger() (log *zap.Logger, done func()) {
	encoder := zap.NewProductionEncoderConfig()
	encoder.EncodeTime = zapcore.ISO8601TimeEncoder
	to := func(f *os.File) *zap.Logger {
		return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(encoder), f, c.LogLevel))
	}
	log, done = to(os.Stderr), func() {}
	if c.LogFile == "" {
		return log, done
	}
	// A fifo that nobody reads is an error then, and not waited for.
	file, err := os.OpenFile(c.LogFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY|unix.O_NONBLOCK, 0o600)
	if err != nil {
		log.Warn("the log goes here", zap.Error(err))
		return log, done
	}
	return to(file), func() { file.Close() }
}

// validate refuses a configuration that makes no sense, and warns of what in it means nothing.
func (c *call) validate() error {
	for _, key := range c.config.unknown {
		c.log.Warn("the network configuration has an unknown key", zap.String("key", key))
	}
	return c.config.check()
}

// request is how package network is asked to work for an attachment.
func (c *call) request(a *attachment, netns string) network.Request {
	return network.Request{
		Namespace:   netns,
		StateDir:    c.store.path(a.ContainerID, a.IfName),
		Options:     c.config.options(a.Interface),
		LockTimeout: lockTimeout,
	}
}
