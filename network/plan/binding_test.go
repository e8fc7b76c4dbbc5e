package plan

import "testing"

func TestWhatTakesABindingNamesAllThatCanBeAskedFor(t *testing.T) {
	if got := OneOf(BindingNames()); got != "auto, bridge, redirect or shared" {
		t.Errorf("they are %s", got)
	}
	for _, name := range BindingNames() {
		if err := (Options{Binding: name}).Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{BindingManagedTap, "macvtap"} {
		if err := (Options{Binding: name}).Check(); err == nil {
			t.Errorf("%s can be asked for", name)
		}
	}
}

// TestAWiringIsOfOneBinding has what a look finds in all its combinations.
func TestAWiringIsOfOneBinding(t *testing.T) {
	tap, bridge := Link{Name: "tap0", Kind: KindTun}, Link{Name: "eth0-br", Kind: KindBridge}
	shared := tap
	shared.Alias = RedirectFacts{Shared: true}.String()
	for _, test := range []struct {
		nic    string
		marked []Link
		want   string
	}{
		{"eth0", nil, BindingRedirect},
		{"eth0", []Link{tap}, BindingRedirect},
		{"eth0", []Link{shared}, BindingShared},
		{"eth0", []Link{tap, bridge}, BindingBridge},
		{"eth0", []Link{shared, bridge}, BindingBridge},
		{"eth0" + nicSuffix, nil, BindingBridge},
		{"eth0" + nicSuffix, []Link{tap}, BindingBridge},
		{"", []Link{tap}, BindingRedirect},
	} {
		nic := Link{Name: test.nic}
		names, _ := Recognize(nic, test.marked, DefaultTap)
		if names.Binding.Name() != test.want {
			t.Errorf("%q with %v is %s, want %s", test.nic, test.marked, names.Binding.Name(), test.want)
		}
		var made []string
		for _, b := range bindings {
			if b.Made(nic, test.marked) {
				made = append(made, b.Name())
			}
		}
		if len(made) != 1 {
			t.Errorf("%q with %v is of %q", test.nic, test.marked, made)
		}
	}
}
