package main

import (
	"encoding/json"
	"fmt"
	"io"
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
		Short: "Give the pod's interface to a bridge and a tap",
		Long: `Discover the pod's interface and rewire it into a bridge and a tap for a guest.
What the interface held is recorded first, so that 'podnic restore' brings it
back exactly. A wiring that is there is checked, and mended where it is not as
it should be; what is not asked for stays as it was wired. When a step fails,
those before it are undone.

It needs CAP_NET_ADMIN, CAP_NET_RAW and /dev/net/tun.`,
		Args: noArgs,
	}
	dryRun := cmd.Flags().Bool("dry-run", false, "print what would be done, and do nothing")
	socket := socketFlag(cmd)
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
			steps, err := network.Plan(cmd.Context(), req)
			if err != nil {
				return err
			}
			return a.printSteps(steps, asJSON)
		}
		result, err := wiring.Prepare(cmd.Context(), req, a.started)
		if err != nil {
			return err
		}
		report, err := status.NewReport(req, result.State, a.common.looker())
		if err != nil {
			return err
		}
		if asJSON {
			return a.printJSON(report)
		}
		printPrepared(a.out, result, report)
		return nil
	}
	return cmd
}

func (a *app) printSteps(steps []network.Step, asJSON bool) error {
	if asJSON {
		if steps == nil {
			steps = []network.Step{}
		}
		return a.printJSON(map[string]any{"steps": steps})
	}
	if len(steps) == 0 {
		fmt.Fprintln(a.out, "nothing to do: the interface is wired as it should be")
	}
	for _, s := range steps {
		fmt.Fprintln(a.out, printable.Line(s.String()))
	}
	return nil
}

func printPrepared(w io.Writer, result *network.Result, report *status.Report) {
	r := report.Interfaces[0]
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
	fmt.Fprintf(w, "  wiring   pod network ── %s ── %s ── %s ── guest\n", r.NIC, r.Bridge, r.Tap)
	fmt.Fprintf(w, "  guest    %s\n", strings.Join(guestLine(r), "  "))
	printWarnings(w, r.Warnings)
}

// guestLine is who the guest will be.
func guestLine(r status.InterfaceReport) []string {
	line := []string{"mac " + r.MAC.String()}
	if r.Offer == nil {
		return append(line, "layer 2 only")
	}
	line = append(line, "address "+r.Offer.Address.String())
	if r.Offer.Gateway.IsValid() {
		line = append(line, "gateway "+r.Offer.Gateway.String())
	}
	return append(line, fmt.Sprintf("mtu %d", r.Offer.MTU))
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
