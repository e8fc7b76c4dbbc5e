package dhcp

import (
	"fmt"
	"slices"
)

// shortage is what a message had no room for.
type shortage struct {
	// leftOut are the codes of options that are missing, in the order in which they were given up.
	leftOut []uint8
	// cut are the codes of options that have only the routes of routeForms.bare.
	cut []uint8
}

// text says it of a datagram of so many bytes; empty when there was room for all.
func (s shortage) text(datagram int) string {
	switch {
	case len(s.leftOut)+len(s.cut) == 0:
		return ""
	case len(s.cut) == 0:
		return fmt.Sprintf("options %d do not fit into %d bytes", s.leftOut, datagram)
	case len(s.leftOut) == 0:
		return fmt.Sprintf("the routes do not fit into %d bytes: option %d has those to the gateway and to the server, and the default", datagram, s.cut)
	}
	return fmt.Sprintf("options %d and the routes do not fit into %d bytes: option %d has those to the gateway and to the server, and the default", s.leftOut, datagram, s.cut)
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
func squeeze(msg []byte, options []wireOption, l layout) ([]byte, shortage, error) {
	forms := make([]form, len(options))
	try := func() (arrangement, bool) {
		return arrange(make([]byte, 0, l.room), inForms(options, forms, l.routes), l)
	}
	var best arrangement
	made := concessions(options, l.routes)
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
	var s shortage
	for _, c := range made {
		switch {
		case forms[c.option] != c.to || repeatsRoutes(options, forms, c.option):
		case c.to == formGone:
			s.leftOut = append(s.leftOut, options[c.option].code)
		case c.to == formBare:
			s.cut = append(s.cut, options[c.option].code)
		}
	}
	if !fits {
		return nil, s, dropNoRoom
	}
	return best.write(msg), s, nil
}

// repeatsRoutes reports whether an option is 249 beside a 121 that is sent.
func repeatsRoutes(options []wireOption, forms []form, option int) bool {
	if options[option].code != codeRoutesMS {
		return false
	}
	i := indexOf(options, codeRoutes)
	return i >= 0 && forms[i] != formGone
}

func indexOf(options []wireOption, code uint8) int {
	return slices.IndexFunc(options, func(o wireOption) bool { return o.code == code })
}

// inForms are the options as they are sent.
func inForms(options []wireOption, forms []form, routes routeForms) []wireOption {
	all := make([]wireOption, 0, len(options)+1)
	for i, o := range options {
		switch forms[i] {
		case formGone:
			continue
		case formLean:
			o.data = routes.lean
		case formBare:
			o.data = routes.bare
		}
		all = append(all, o)
	}
	return all
}

// concessions are all that can be made, in their order. A client that asks for 121 and 249 loses the second without
// harm, and a route that says what another says. Then follow the options of importance, and where those come that a guest
// cannot do without, the routes but for the gateway's.
func concessions(options []wireOption, routes routeForms) []concession {
	var all []concession
	twice := -1
	if indexOf(options, codeRoutes) >= 0 {
		twice = indexOf(options, codeRoutesMS)
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
	shorten(formLean, routes.lean, routes.whole)
	for place, code := range importance {
		if code == firstNeeded {
			shorten(formBare, routes.bare, routes.lean)
		}
		for i, o := range slices.Backward(options) {
			if rank(o.code) == place && i != twice {
				all = append(all, concession{option: i, to: formGone})
			}
		}
	}
	return all
}

// anyExtra stands in importance for every option that has no entry of its own: those of the operator.
const anyExtra = codePad

// firstNeeded is the first option of importance that is worth more than the routes besides the gateway's.
const firstNeeded = codeHostname

// importance is the order in which options are left out of a message that is too small for all of them, the first one
// first, and the last one among equals: it begins with what a guest can do without and ends with what it needs to reach
// anything at all. 249 comes late because a client that asks for it may not know 121.
var importance = [...]uint8{
	codeBroadcast, codeNTP, anyExtra, codeSearch, codeTFTPServer, codeBootFile, codeDomainName, codeHostname, codeMTU,
	codeDNS, codeRoutesMS, codeRouter, codeRoutes,
}

// rank is the place of an option in importance; those that the protocol needs in a message come after all.
func rank(code uint8) int {
	switch code {
	case codeMask, codeLeaseTime, codeOverload, codeMessageType, codeServer, codeMessage, codeRenewal, codeRebinding, codeClientID,
		codeRapidCommit, codeRelayAgent:
		return len(importance)
	}
	if i := slices.Index(importance[:], code); i >= 0 {
		return i
	}
	return slices.Index(importance[:], anyExtra)
}
