package qemuhook

import (
	"strings"
	"testing"
)

func TestHookCallsThatLibvirtMakesAreKnown(t *testing.T) {
	for line, want := range map[string]struct{ known, tolerant bool }{
		"vm prepare begin -":         {true, false},
		"vm start begin -":           {true, false},
		"vm started begin -":         {true, false},
		"vm stopped end -":           {true, false},
		"vm release end destroyed":   {true, false},
		"vm reconnect begin -":       {true, true},
		"vm attach begin -":          {true, true},
		"vm migrate begin -":         {true, false},
		"vm restore begin -":         {true, false},
		"vm prepare end -":           {false, false},
		"vm hibernate begin -":       {false, false},
		"- shutdown - shutdown":      {false, false},
		"prepare prepare release -":  {false, false},
		"vm reconnect whatever oops": {false, true},
	} {
		call, err := NewCall(strings.Fields(line))
		if err != nil || call.Known() != want.known || call.Tolerant() != want.tolerant {
			t.Errorf("%s: known %v, tolerant %v, %v", line, call.Known(), call.Tolerant(), err)
		}
	}
	if _, err := NewCall([]string{"vm", "prepare", "begin"}); err == nil {
		t.Error("three arguments are taken for a call")
	}
	if c := (Call{Extra: "-"}); c.Reason() != "" {
		t.Errorf("no reason is %q", c.Reason())
	}
}
