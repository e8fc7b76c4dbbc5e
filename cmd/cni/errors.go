package cni

import (
	"errors"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/podnic/podnic/network"
)

// Codes of errors that only podnic has. The specification leaves those from 100 on to plugins.
const (
	// CodeRefused says that the pod cannot be wired as it is, or not so, and that nothing was touched.
	CodeRefused = 100
	// CodeFailed says that a change failed, and that everything was put back.
	CodeFailed = 101
	// CodeStuck says that it could not be put back. The records are kept, and DEL tries again.
	CodeStuck = 102
	// CodeBroken is CHECK's: something is not as ADD made it.
	CodeBroken = 103
)

// asError gives an error its code.
func asError(err error) error {
	if err == nil {
		return nil
	}
	var coded *types.Error
	if errors.As(err, &coded) {
		return coded
	}
	_, stuck := errors.AsType[*network.StuckError](err)
	code := uint(CodeFailed)
	switch {
	case errors.Is(err, network.ErrBusy):
		code = types.ErrTryAgainLater
	case network.IsNoNamespace(err):
		code = types.ErrUnknownContainer
	case stuck:
		code = CodeStuck
	case network.IsRefusal(err):
		code = CodeRefused
	}
	details := ""
	if strings.Contains(err.Error(), "--") {
		details = "what is called --NAME there is the key NAME of the network configuration (owner and group for --tap-owner and --tap-group)"
	}
	return types.NewError(code, err.Error(), details)
}
