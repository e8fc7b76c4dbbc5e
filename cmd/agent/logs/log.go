// Package logs is what a process writes down: to standard error, and to files of the state directory that outlive it.
package logs

import (
	"fmt"
	"io"
	"os"

	"github.com/podnic/podnic/cmd/printable"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
)

// New writes to w, as the flags --log-level and --log-format say.
func New(w io.Writer, logLevel, format string) (*zap.Logger, error) {
	var level zapcore.Level
	if err := level.UnmarshalText([]byte(logLevel)); err != nil || level > zapcore.ErrorLevel {
		return nil, fmt.Errorf("--log-level takes debug, info, warn or error, not %q", logLevel)
	}
	config := zap.NewProductionEncoderConfig()
	config.EncodeTime = zapcore.ISO8601TimeEncoder
	config.EncodeDuration = zapcore.StringDurationEncoder
	if format == "" {
		format = "json"
		if IsTerminal(w) {
			format = "console"
		}
	}
	var encoder zapcore.Encoder
	var printed io.Writer
	switch format {
	case "json":
		encoder, printed = zapcore.NewJSONEncoder(config), printable.JSON(w)
	case "console":
		config.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		config.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder, printed = zapcore.NewConsoleEncoder(config), printable.Entries(w)
	default:
		return nil, fmt.Errorf("--log-format takes console or json, not %q", format)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(printed)), level)), nil
}

// IsTerminal reports whether somebody may be looking.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
