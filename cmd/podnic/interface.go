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
// but for the tap: each has its own. check refuses what one of them cannot have.
func addInterfaces(req *network.Request, texts []string, check func(plan.Options) error) error {
	for _, text := range texts {
		if text == allInterfaces {
			if req.All = true; len(texts) > 1 {
				return errors.New("all excludes other interfaces")
			}
			break
		}
		o, err := parseInterface(text, req.Options)
		if err != nil {
			return err
		}
		if err := check(o); err != nil {
			return fmt.Errorf("%s: %w", o.Interface, err)
		}
		for _, other := range req.Interfaces {
			switch {
			case other.Interface == o.Interface:
				return fmt.Errorf("%s is named twice", o.Interface)
			case other.Tap != "" && other.Tap == o.Tap:
				return fmt.Errorf("%s and %s cannot both have the tap %s: name one for each (--interface %s,tap=…)", other.Interface, o.Interface, o.Tap, o.Interface)
			}
		}
		req.Interfaces = append(req.Interfaces, o)
	}
	switch {
	case req.All && req.Options.Tap != "":
		return fmt.Errorf("all cannot have the one tap %s: leave --tap out", req.Options.Tap)
	case len(req.Interfaces) == 1:
		req.Options, req.Interfaces = req.Interfaces[0], nil
	}
	return nil
}

// portKeys take several values: what has no key of its own behind one is another.
var portKeys = []string{"pod-ports", "guest-ports"}

// parseInterface reads NAME[,KEY=VALUE…].
func parseInterface(text string, o plan.Options) (plan.Options, error) {
	name, rest, more := strings.Cut(text, ",")
	if !plan.ValidName(name) {
		return o, fmt.Errorf("%q cannot be the name of an interface", name)
	}
	o.Interface = name
	said := make(map[string]bool)
	for more {
		var pair string
		pair, rest, more = strings.Cut(rest, ",")
		key, value, ok := strings.Cut(pair, "=")
		if !ok || value == "" {
			return o, fmt.Errorf("%s: %q is not KEY=VALUE, with one of the keys %s", name, pair, interfaceKeys)
		}
		if said[key] {
			return o, fmt.Errorf("%s: %s is given twice", name, key)
		}
		said[key] = true
		for more && slices.Contains(portKeys, key) {
			next, behind, further := strings.Cut(rest, ",")
			if strings.Contains(next, "=") {
				break
			}
			value, rest, more = value+","+next, behind, further
		}
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
				return o, fmt.Errorf("%s: queues takes a number, not %q", name, value)
			}
			o.Queues = queues
		case "pod-ports", "guest-ports":
			ports, err := plan.ParsePorts(value)
			if err != nil {
				return o, fmt.Errorf("%s: %s: %w", name, key, err)
			}
			if key == "pod-ports" {
				o.PodPorts = ports
			} else {
				o.GuestPorts = ports
			}
		case "mac":
			return o, fmt.Errorf("%s: a guest has the MAC of the pod's interface, by which the pod network knows it: have the network give the interface %s (mac in Multus' annotation), and leave the key out", name, value)
		default:
			return o, fmt.Errorf("%s: there is no key %q, but %s", name, key, interfaceKeys)
		}
	}
	return o, nil
}
