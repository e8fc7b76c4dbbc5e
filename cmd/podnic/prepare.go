package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/podnic/podnic/cmd/agent/status"
	"github.com/podnic/podnic/cmd/agent/wiring"
	"github.com/podnic/podnic/cmd/printable"
	"github.com/podnic/podnic/network"
	"github.com/spf13/cobra"
)

func (a *app) prepareCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "prepare",
		Short: "Join the pod's interface to a tap for a guest",
		Long: `Discover the pod's interface and join it to a tap for a guest: by a bridge, or
by a redirect that leaves the interface as it is (--binding). What the interface
held is recorded first, so that 'podnic restore' brings it back exactly. An
existing wiring is checked, and mended where it is not as it should be; options
that are not given stay as they were. When a step fails, those before it are
undone.

Of several interfaces (--interface eth0 --interface net1,tap=tap9, or all), each
gets a tap of its own: tap0, tap1, … in order. All are wired, or none. JSON has
them in a list, also of one and with --dry-run.

It needs CAP_NET_ADMIN, CAP_NET_RAW and /dev/net/tun.

Exit status: 0 done; 1 failed; 2 wrong usage, or a refusal, nothing touched; 3
failed, and the namespace could not be put back.`,
		Example: `  podnic prepare --tap-owner 107
  podnic prepare --dry-run -o json
  podnic prepare --interface eth0 --interface net1,tap=tap9,queues=4`,
		Args: noArgs,
	}
	dryRun := cmd.Flags().Bool("dry-run", false, "print what would be done, and do nothing")
	socket := socketFlag(cmd, asWired)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := a.common.json()
		if err != nil {
			return err
		}
		req, err := a.common.request(socket())
		if err != nil {
			return err
		}
		if *dryRun {
			planned, err := network.Plan(cmd.Context(), req)
			if err != nil {
				return err
			}
			return a.printPlanned(planned, asJSON)
		}
		results, err := wiring.PrepareAll(cmd.Context(), req, a.started)
		if err != nil {
			return err
		}
		var seen []*network.Inspection
		for _, r := range results {
			seen = append(seen, r.Seen)
		}
		report, err := status.NewReport(req, seen, a.common.inspectService())
		if err != nil {
			return err
		}
		if asJSON {
			return a.printJSON(report)
		}
		for i, r := range results {
			printPrepared(a.out, r, report.Interfaces[i])
		}
		return nil
	}
	return cmd
}

// plannedReport is what a dry run prints as JSON. The fields of a single interface stand beside the list as well, where they
// were before there was one.
type plannedReport struct {
	APIVersion string             `json:"apiVersion"` // podnic/v1
	Interfaces []*network.Planned `json:"interfaces"`
	*network.Planned
}

// printPlanned says what prepare would do: as text, of several interfaces each under its name.
func (a *app) printPlanned(planned []*network.Planned, asJSON bool) error {
	if asJSON {
		report := plannedReport{APIVersion: "podnic/v1", Interfaces: planned}
		if len(planned) == 1 {
			report.Planned = planned[0]
		}
		return a.printJSON(report)
	}
	for _, p := range planned {
		if len(planned) > 1 {
			fmt.Fprintln(a.out, p.Interface)
		}
		a.printSteps(p)
	}
	return nil
}

func (a *app) printSteps(planned *network.Planned) {
	if len(planned.Steps) == 0 {
		fmt.Fprintln(a.out, "nothing to do: the interface is wired as it should be")
		return
	}
	binding := "binding " + planned.Binding
	if planned.Why != "" {
		binding += " (" + planned.Why + ")"
	}
	fmt.Fprintln(a.out, printable.Line(binding))
	for _, s := range planned.Steps {
		fmt.Fprintln(a.out, printable.Line(s.String()))
	}
}

func printPrepared(w io.Writer, result *network.Result, r status.InterfaceReport) {
	switch {
	case len(result.Steps) == 0:
		fmt.Fprintf(w, "%s is wired already, and as it should be\n", r.Name)
	case result.Repaired:
		fmt.Fprintf(w, "%s was wired already; mended:\n", r.Name)
		for _, s := range result.Steps {
			fmt.Fprintf(w, "  %s\n", s)
		}
	default:
		fmt.Fprintf(w, "%s is wired for a guest (%d changes)\n", r.Name, len(result.Steps))
	}
	links := slices.DeleteFunc([]string{"pod network", cmp.Or(r.NIC, r.Name), r.Bridge, r.Tap, "guest"}, func(name string) bool { return name == "" })
	fmt.Fprintf(w, "  wiring   %s\n", strings.Join(links, " ── "))
	if r.BindingReason != "" {
		fmt.Fprintf(w, "  binding  %s (%s)\n", r.Binding, r.BindingReason)
	}
	if ports := r.Ports(); ports != "" {
		fmt.Fprintf(w, "  ports    %s\n", ports)
	}
	fmt.Fprintf(w, "  guest    %s\n", strings.Join(guestLine(r), "  "))
	printWarnings(w, r.Warnings)
}

// guestLine is who the guest will be.
func guestLine(r status.InterfaceReport) []string {
	line := []string{"mac " + r.MAC.String()}
	mtu := r.MTU
	if offer := r.Offer; offer != nil {
		mtu = offer.MTU
		line = append(line, "address "+offer.Address.String())
		if offer.Gateway.IsValid() {
			line = append(line, "gateway "+offer.Gateway.String())
		}
	}
	if offer := r.Offer6; offer != nil {
		for _, a := range offer.Addresses {
			line = append(line, "address "+a.String())
		}
		if offer.Router.IsValid() {
			line = append(line, "router "+offer.Router.String())
		}
	}
	if r.Offer == nil && r.Offer6 == nil {
		return append(line, "layer 2 only")
	}
	return append(line, fmt.Sprintf("mtu %d", mtu))
}

func printWarnings(w io.Writer, warnings []string) {
	for _, warning := range warnings {
		fmt.Fprintf(w, "warning: %s\n", printable.Line(warning))
	}
}

func (a *app) printJSON(v any) error {
	e := json.NewEncoder(printable.JSON(a.stdout))
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
