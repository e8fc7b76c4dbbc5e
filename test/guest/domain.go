package guest

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
	"text/template"
)

// Domain is a libvirt domain that boots the guest.
type Domain struct {
	Name  string
	Image *Image
	// KVM is whether the machine has working hardware virtualization; without it the guest is emulated.
	KVM bool
	// Console is the file that the serial console goes to.
	Console string
	// Arguments are added to the kernel's, such as "podnic.poweroff=5".
	Arguments []string
	// Metadata is a <metadata> element, for guests that say whose they are.
	Metadata string
	// Interface is an <interface> element, for guests that podnic does not give one.
	Interface string
}

var domainXML = template.Must(template.New("domain").Funcs(template.FuncMap{"text": escape}).Parse(
	`<domain type='{{if .KVM}}kvm{{else}}qemu{{end}}'>
  <name>{{text .Name}}</name>{{if .Metadata}}
  {{.Metadata}}{{end}}
  <memory unit='MiB'>128</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{{text .Image.Kernel}}</kernel>
    <initrd>{{text .Image.Initrd}}</initrd>
    <cmdline>{{text .CommandLine}}</cmdline>
  </os>
  <features>
    <acpi/>
  </features>{{if .KVM}}
  <cpu mode='host-passthrough'/>{{end}}
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <serial type='file'>
      <source path='{{text .Console}}'/>
      <target port='0'/>
    </serial>
    <console type='file'>
      <source path='{{text .Console}}'/>
      <target type='serial' port='0'/>
    </console>{{if .Interface}}
    {{.Interface}}{{end}}
    <memballoon model='none'/>
  </devices>
</domain>
`))

// XML is the domain as libvirt wants it. Without Interface it has none, and whoever starts it must add one.
func (d Domain) XML() (string, error) {
	var b strings.Builder
	if err := domainXML.Execute(&b, d); err != nil {
		return "", fmt.Errorf("domain %s: %w", d.Name, err)
	}
	return b.String(), nil
}

// CommandLine is the kernel's: little noise before the guest speaks, an end, not a hang, when it panics, and no test of the
// timer, which an emulated processor that gets no time fails: such a guest would stand still ("8254 timer not connected").
func (d Domain) CommandLine() string {
	return strings.Join(append(strings.Fields(baseArguments), d.Arguments...), " ")
}

const baseArguments = "console=ttyS0 quiet panic=-1 no_timer_check"

func escape(s string) (string, error) {
	var b bytes.Buffer
	err := xml.EscapeText(&b, []byte(s))
	return b.String(), err
}
