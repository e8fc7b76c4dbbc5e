package command

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/podnic/podnic/network/identity"
)

// Interface is what a command is told of an interface of its guest.
type Interface struct {
	// Name is the pod's name for the interface.
	Name string `json:"interface"`
	Tap  string `json:"tap"`
	// MAC is the guest's.
	MAC identity.MAC `json:"mac"`
	// MTU in bytes.
	MTU int `json:"mtu"`
	// Queues of the tap, at least 1.
	Queues int `json:"queues"`
	// Files are the tap, opened once for each queue; none if the command is to open it itself.
	Files []*os.File `json:"-"`
}

// firstFD is the first descriptor that a child has of those that are handed to it, after the standard three.
const firstFD = 3

// Values are what the interfaces are called by in arguments and environment: PODNIC_TAP and the like of the first,
// PODNIC_TAP_1 and so on of the second, and all of them in PODNIC_INTERFACES, as JSON. Descriptors of several queues are
// joined by a colon, as QEMU's fds= takes them.
func Values(interfaces []Interface) map[string]string {
	type described struct {
		Interface
		FD string `json:"tapFd,omitempty"`
	}
	values := make(map[string]string)
	var all []described
	next := firstFD
	for n, i := range interfaces {
		suffix := ""
		if n > 0 {
			suffix = fmt.Sprintf("_%d", n)
		}
		d := described{Interface: i}
		var fds []string
		for range i.Files {
			fds = append(fds, strconv.Itoa(next))
			next++
		}
		d.FD = strings.Join(fds, ":")
		all = append(all, d)
		values["PODNIC_INTERFACE"+suffix] = i.Name
		values["PODNIC_TAP"+suffix] = i.Tap
		values["PODNIC_MAC"+suffix] = i.MAC.String()
		values["PODNIC_MTU"+suffix] = strconv.Itoa(i.MTU)
		values["PODNIC_QUEUES"+suffix] = strconv.Itoa(i.Queues)
		if d.FD != "" {
			values["PODNIC_TAP_FD"+suffix] = d.FD
		}
	}
	text, _ := json.Marshal(all) // strings and numbers
	values["PODNIC_INTERFACES"] = string(text)
	return values
}

// placeholder is $(NAME), with all the dollars in front of it.
var placeholder = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\$+\(([A-Za-z_][A-Za-z0-9_]*)\)`) })

// Expand replaces each $(NAME) for which there is a value, as Kubernetes does in the arguments of a container. $$(NAME)
// stands for $(NAME) itself, and a name without a value stays as it is. All other dollars are the command's own business.
func Expand(argument string, values map[string]string) string {
	return placeholder().ReplaceAllStringFunc(argument, func(found string) string {
		dollars := strings.Index(found, "(")
		name := found[dollars+1 : len(found)-1]
		literal := strings.Repeat("$", dollars/2)
		if dollars%2 == 0 {
			return literal + found[dollars:]
		}
		if value, ok := values[name]; ok {
			return literal + value
		}
		return literal + "$" + found[dollars:]
	})
}

// Uses reports whether a placeholder of that name is among the arguments, of whichever interface.
func Uses(arguments []string, name string) bool {
	used := false
	for _, argument := range arguments {
		for _, found := range placeholder().FindAllString(argument, -1) {
			dollars := strings.Index(found, "(")
			used = used || dollars%2 == 1 && strings.HasPrefix(found[dollars+1:], name)
		}
	}
	return used
}
