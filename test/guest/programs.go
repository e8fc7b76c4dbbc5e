package guest

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
)

// programDirectory is where an image has the programs of this machine, before busybox's in its PATH.
const programDirectory = "usr/local/bin/"

// programFiles are programs of this machine, by their names, with what they load: where the image has them.
func programFiles(names []string) (map[string][]byte, error) {
	files := make(map[string][]byte)
	add := func(name, path string) (err error) {
		files[name], err = os.ReadFile(path)
		return err
	}
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			return nil, fmt.Errorf("%w (run scripts/setup)", err)
		}
		if err := add(programDirectory+name, path); err != nil {
			return nil, err
		}
		libraries, err := Libraries(path)
		if err != nil {
			return nil, err
		}
		for _, library := range libraries {
			if err := add(library[1:], library); err != nil {
				return nil, err
			}
		}
	}
	return files, nil
}

// Libraries are what the kernel and then the loader load to start a program, as paths: the loader, and shared libraries. A
// static program has none.
func Libraries(path string) ([]string, error) {
	loader, err := interpreter(path)
	if err != nil || loader == "" {
		return nil, err
	}
	out, err := exec.Command("ldd", path).Output()
	if err != nil {
		return nil, fmt.Errorf("ldd %s: %w", path, err)
	}
	list := []string{loader}
	for _, match := range regexp.MustCompile(`=> (/\S+)`).FindAllStringSubmatch(string(out), -1) {
		list = append(list, match[1])
	}
	return list, nil
}

// interpreter is what the kernel starts to load a program's libraries; empty for a static one.
func interpreter(path string) (string, error) {
	file, err := elf.Open(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	defer file.Close()
	i := slices.IndexFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
	if i < 0 {
		return "", nil
	}
	b := make([]byte, file.Progs[i].Filesz-1) // without its final NUL
	if _, err := file.Progs[i].ReadAt(b, 0); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return string(b), nil
}
