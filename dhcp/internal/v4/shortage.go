package v4

import (
	"fmt"
	"slices"

	"github.com/podnic/podnic/dhcp/internal/drop"
)

// Shortage is what a message had no room for.
type Shortage struct {
	// LeftOut are the codes of options that are missing, in the order in which they were given up.
	LeftOut []uint8
	// Cut are the codes of options that have only the routes of RouteForms.bare.
	Cut []uint8
}

// Text says it of a datagram of so many bytes; empty when there was room for all.
func (s Shortage) Text(datagram int) string {
	switch {
	case len(s.LeftOut)+len(s.Cut) == 0:
		return ""
	case len(s.Cut) == 0:
		return fmt.Sprintf("options %d do not fit into %d bytes", s.LeftOut, datagram)
	case len(s.LeftOut) == 0:
		return fmt.Sprintf("the routes do not fit into %d bytes: option %d has those to the gateway and to the server, and the default", datagram, s.Cut)
	}
	return fmt.Sprintf("options %d and the routes do not fit into %d bytes: option %d has those to the gateway and to the server, and the default", s.LeftOut, datagram, s.Cut)
}

// form is how much of an option is sent.
type form uint8

const (
	formWhole form = iota
	formLean       // of routes, those that say something which the others do not
	formBare       // of routes, those without which nothing is reached
	formGone
)

// concession sends less of one option.
type concession struct {
	option   int // its index
	from, to form
}

// squeeze makes concessions until the options fit, and then takes back those that were not needed: an option that can
// never fit must not take along others that do.
func squeeze(msg []byte, options []Option, l Layout) ([]byte, Shortage, error) {
	forms := make([]form, len(options))
	try := func() (arrangement, bool) {
		return arrange(make([]byte, 0, l.Room), inForms(options, forms, l.Routes), l)
	}
	var best arrangement
	made := concessions(options, l.Routes)
	fits := false
	for i := range made {
		c := &made[i]
		c.from, forms[c.option] = forms[c.option], c.to
		if best, fits = try(); fits {
			made = made[:i+1]
			break
		}
	}
	for _, c := range slices.Backward(made) {
		if !fits || forms[c.option] != c.to || repeatsRoutes(options, forms, c.option) {
			continue
		}
		forms[c.option] = c.from
		if better, ok := try(); ok {
			best = better
		} else {
			forms[c.option] = c.to
		}
	}
	var s Shortage
	for _, c := range made {
		switch {
		case forms[c.option] != c.to || repeatsRoutes(options, forms, c.option):
		case c.to == formGone:
			s.LeftOut = append(s.LeftOut, options[c.option].Code)
		case c.to == formBare:
			s.Cut = append(s.Cut, options[c.option].Code)
		}
	}
	if !fits {
		return nil, s, drop.NoRoom
	}
	return best.write(msg), s, nil
}

// repeatsRoutes reports whether an option is 249 beside a 121 that is sent.
func repeatsRoutes(options []Option, forms []form, option int) bool {
	if options[option].Code != CodeRoutesMS {
		return false
	}
	i := indexOf(options, CodeRoutes)
	return i >= 0 && forms[i] != formGone
}

func indexOf(options []Option, code uint8) int {
	return slices.IndexFunc(options, func(o Option) bool { return o.Code == code })
}

// inForms are the options as they are sent.
func inForms(options []Option, forms []form, routes RouteForms) []Option {
	all := make([]Option, 0, len(options)+1)
	for i, o := range options {
		switch forms[i] {
		case formGone:
			continue
		case formLean:
			o.Data = routes.Lean
		case formBare:
			o.Data = routes.Bare
		}
		all = append(all, o)
	}
	return all
}

// concessions are all that can be made, in their order. A client that asks for 121 and 249 loses the second without
// harm, and a route that says what another says. Then follow the options of importance, and where those come that a guest
// cannot do without, the routes but for the gateway's.
func concessions(options []Option, routes RouteForms) []concession {
	var all []concession
	twice := -1
	if indexOf(options, CodeRoutes) >= 0 {
		twice = indexOf(options, CodeRoutesMS)
	}
	if twice >= 0 {
		all = append(all, concession{option: twice, to: formGone})
	}
	shorten := func(to form, data, before []byte) {
		for i, o := range options {
			if routes.are(o) && i != twice && len(data) < len(before) {
				all = append(all, concession{option: i, to: to})
			}
		}
	}
	shorten(formLean, routes.Lean, routes.Whole)
	for place, code := range importance {
		if code == firstNeeded {
			shorten(formBare, routes.Bare, routes.Lean)
		}
		for i, o := range slices.Backward(options) {
			if rank(o.Code) == place && i != twice {
				all = append(all, concession{option: i, to: formGone})
			}
		}
	}
	return all
}

// anyExtra stands in importance for every option that has no entry of its own: those of the operator.
const anyExtra = CodePad

// firstNeeded is the first option of importance that is worth more than the routes besides the gateway's.
const firstNeeded = CodeHostname

// importance is the order in which options are left out of a message that is too small for all of them, the first one
// first, and the last one among equals: it begins with what a guest can do without and ends with what it needs to reach
// anything at all. 249 comes late because a client that asks for it may not know 121.
var importance = [...]uint8{
	CodeBroadcast, CodeNTP, anyExtra, CodeSearch, CodeTFTPServer, CodeBootFile, CodeDomainName, CodeHostname, CodeMTU,
	CodeDNS, CodeRoutesMS, CodeRouter, CodeRoutes,
}

// rank is the place of an option in importance; those that the protocol needs in a message come after all.
func rank(code uint8) int {
	switch code {
	case CodeMask, CodeLeaseTime, CodeOverload, CodeMessageType, CodeServer, CodeMessage, CodeRenewal, CodeRebinding, CodeClientID,
		CodeRapidCommit, CodeRelayAgent:
		return len(importance)
	}
	if i := slices.Index(importance[:], code); i >= 0 {
		return i
	}
	return slices.Index(importance[:], anyExtra)
}
