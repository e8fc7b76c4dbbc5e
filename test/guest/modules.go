package guest

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// wantedModules are what the guest needs of a kernel that has them as modules: its network card, IPv6, and the power button as
// an input device. A kernel that has one built in, or does not have it, is as good.
var wantedModules = []string{"virtio_pci", "virtio_net", "ipv6", "button", "evdev"}

// module is a kernel module, uncompressed.
type module struct {
	name string
	data []byte
}

// loadOrder reads the wanted modules and those they depend on from an unpacked kernel, each after all it needs. There is
// no modules.dep in a package that was not installed, so the dependencies come from the modules themselves.
func loadOrder(tree string, wanted []string) ([]module, error) {
	files := make(map[string]string)
	err := filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if name, _, ok := strings.Cut(filepath.Base(path), ".ko"); ok && err == nil && !entry.IsDir() {
			files[canonical(name)] = path
		}
		return err
	})
	if err != nil {
		return nil, err
	}

	var order []module
	seen := make(map[string]bool)
	var add func(name string) error
	add = func(name string) error {
		name = canonical(name)
		path, ok := files[name]
		if !ok || seen[name] {
			return nil
		}
		seen[name] = true
		data, err := readModule(path)
		if err != nil {
			return err
		}
		needs, err := dependencies(data)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, need := range needs {
			if err := add(need); err != nil {
				return err
			}
		}
		order = append(order, module{name, data})
		return nil
	}
	for _, name := range wanted {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// canonical is a module's name as the kernel has it: files may be spelt with a dash.
func canonical(name string) string { return strings.ReplaceAll(name, "-", "_") }

// readModule reads a module, which distributions compress in different ways.
func readModule(path string) ([]byte, error) {
	decompressors := map[string]string{".xz": "xz", ".zst": "zstd", ".gz": "gzip"}
	program, ok := decompressors[filepath.Ext(path)]
	if !ok {
		return os.ReadFile(path)
	}
	data, err := exec.Command(program, "-dc", path).Output()
	if err != nil {
		return nil, fmt.Errorf("%s -dc %s: %w", program, path, err)
	}
	return data, nil
}

// dependencies reads the field "depends" of a module.
func dependencies(data []byte) ([]string, error) {
	file, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, errors.New("not a kernel module: no section .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
