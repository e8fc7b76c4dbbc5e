package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
)

// allInterfaces is what --interface takes in place of a name.
const allInterfaces = "all"

// interfaceKeys are what can be said of one interface, as flags say it of all.
const interfaceKeys = "binding, tap, socket, queues, ipv6, pod-ports, guest-ports"

// addInterfaces adds to a request the interfaces that were asked for. What one of them does not say, the request's options do,
// but for the tap: each has its own. check refuses what one of them cannot have. accept decides of each fault: where it returns
// nil, the interface, or the key, is left out, or is as it is.
func addInterfaces(req *network.Request, texts []string, check func(plan.Options) error, accept func(error) error) error {
interfaces:
	for _, text := range texts {
		if text == allInterfaces {
			if req.All, req.Interfaces = true, nil; len(texts) > 1 {
				if err := accept(errors.New("all excludes other interfaces")); err != nil {
					return err
				}
			}
			break
		}
		if name, _, _ := strings.Cut(text, ","); !plan.ValidName(name) {
			if err := accept(nameError{fmt.Errorf("%q cannot be the name of an interface", name)}); err != nil {
				return err
			}
			continue
		}
		o, err := parseInterface(text, req.Options, accept)
		if err != nil {
			return err
		}
		if err := check(o); err != nil {
			if err := accept(fmt.Errorf("%s: %w", o.Interface, err)); err != nil {
				return err
			}
		}
		for _, other := range req.Interfaces {
			switch {
			case other.Interface == o.Interface:
				if err := accept(fmt.Errorf("%s is named twice", o.Interface)); err != nil {
					return err
				}
				continue interfaces
			case other.Tap != "" && other.Tap == o.Tap:
				if err := accept(fmt.Errorf("%s and %s cannot both have the tap %s: name one for each (--interface %s,tap=…)", other.Interface, o.Interface, o.Tap, o.Interface)); err != nil {
					return err
				}
			}
		}
		req.Interfaces = append(req.Interfaces, o)
	}
	switch {
	case req.All && req.Options.Tap != "":
		err := accept(fmt.Errorf("all cannot have the one tap %s: leave --tap out", req.Options.Tap))
		if err == nil {
			req.Options.Tap = ""
		}
		return err
	case len(req.Interfaces) == 1:
		req.Options, req.Interfaces = req.Interfaces[0], nil
	}
	return nil
}

// nameError is of what cannot be the name of an interface.
type nameError struct{ error }

// portKeys take several values: what has no key of its own behind one is another.
var portKeys = []string{"pod-ports", "guest-ports"}

// parseInterface reads NAME[,KEY=VALUE…]. accept decides of each fault, as that of addInterfaces does.
func parseInterface(text string, o plan.Options, accept func(error) error) (plan.Options, error) {
	name, rest, more := strings.Cut(text, ",")
	o.Interface = name
	said := make(map[string]bool)
	for more {
		var pair string
		pair, rest, more = strings.Cut(rest, ",")
		key, value, ok := strings.Cut(pair, "=")
		var err error
		switch {
		case !ok || value == "":
			err = fmt.Errorf("%q is not KEY=VALUE, with one of the keys %s", pair, interfaceKeys)
		case said[key]:
			err = fmt.Errorf("%s is given twice", key)
		default:
			said[key] = true
			for more && slices.Contains(portKeys, key) {
				next, behind, further := strings.Cut(rest, ",")
				if strings.Contains(next, "=") {
					break
				}
				value, rest, more = value+","+next, behind, further
			}
			err = setKey(&o, key, value)
		}
		if err != nil {
			if err := accept(fmt.Errorf("%s: %w", name, err)); err != nil {
				return o, err
			}
		}
	}
	return o, nil
}

// setKey sets what a key of an interface says, and nothing where it cannot.
func setKey(o *plan.Options, key, value string) error {
	switch key {
	case "binding":
		o.Binding = value
	case "tap":
		o.Tap = value
	case "socket":
		o.Socket = value
	case "ipv6":
		o.IPv6 = value
	case "queues":
		queues, err := strconv.Atoi(value)
		if err != nil {
			return fmt.Errorf("queues takes a number, not %q", value)
		}
		o.Queues = queues
	case "pod-ports", "guest-ports":
		ports, err := plan.ParsePorts(value)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if key == "pod-ports" {
			o.PodPorts = ports
		} else {
			o.GuestPorts = ports
		}
	case "mac":
		return fmt.Errorf("a guest has the MAC of the pod's interface, by which the pod network knows it: have the network give the interface %s (mac in Multus' annotation), and leave the key out", value)
	default:
		return fmt.Errorf("there is no key %q, but %s", key, interfaceKeys)
	}
	return nil
}
