//go:build dist

// Command distimage writes the image `podnic` of a release as a docker archive, which any container runtime loads: the layer and
// the configuration that deploy/Containerfile's stage of that name gives it. scripts/dist runs it.
//
// Usage: distimage ARCHITECTURE VERSION REVISION FILE DIRECTORY
//
// DIRECTORY has the programs, and man pages in man/. No engine takes part, so that one machine without privileges makes the
// images of all architectures, and the same programs give the same bytes: SOURCE_DATE_EPOCH is the time of everything in it.
package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "distimage:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 5 {
		return fmt.Errorf("usage: distimage ARCHITECTURE VERSION REVISION FILE DIRECTORY")
	}
	architecture, version, revision, file, directory := args[0], args[1], args[2], args[3], args[4]
	epoch, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	date := time.Unix(epoch, 0).UTC()
	files, err := contents(directory, date)
	if err != nil {
		return err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files)), nil })
	if err != nil {
		return err
	}
	image, err := mutate.Append(empty.Image, mutate.Addendum{Layer: layer, History: v1.History{Created: v1.Time{Time: date}, CreatedBy: "scripts/dist"}})
	if err != nil {
		return err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return err
	}
	config = config.DeepCopy()
	config.Architecture, config.OS, config.Created = architecture, "linux", v1.Time{Time: date}
	config.Config = v1.Config{
		User:       "65532:65532",
		Entrypoint: []string{"/usr/local/bin/podnic"},
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Labels: map[string]string{
			"org.opencontainers.image.title":       "podnic",
			"org.opencontainers.image.description": "Gives a pod's network interface to a virtual machine in the pod",
			"org.opencontainers.image.source":      "https://github.com/podnic/podnic",
			"org.opencontainers.image.licenses":    "Apache-2.0",
			"org.opencontainers.image.version":     version,
			"org.opencontainers.image.revision":    revision,
		},
	}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return err
	}
	tag, err := name.NewTag("localhost/podnic:" + version)
	if err != nil {
		return err
	}
	return tarball.WriteToFile(file, tag, image)
}

// contents is the layer: everything root's.
func contents(directory string, date time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range []string{"usr/", "usr/local/", "usr/local/bin/"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: date}); err != nil {
			return nil, err
		}
	}
	add := func(from, to string, mode int64) error {
		content, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: to, Mode: mode, Size: int64(len(content)), ModTime: date}); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	}
	for _, program := range []string{"podnic", "podnic-sidecar"} {
		if err := add(filepath.Join(directory, program), "usr/local/bin/"+program, 0o755); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"usr/local/share/", "usr/local/share/man/", "usr/local/share/man/man1/"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: date}); err != nil {
			return nil, err
		}
	}
	pages, err := filepath.Glob(filepath.Join(directory, "man/*.1"))
	if err != nil {
		return nil, err
	}
	if len(pages) == 0 {
		return nil, fmt.Errorf("%s has no man pages", directory)
	}
	for _, page := range pages {
		if err := add(page, "usr/local/share/man/man1/"+filepath.Base(page), 0o644); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
