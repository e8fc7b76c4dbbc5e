package kubevirt

// migrationState is the part of a VMI's status.migrationState that podnic reads.
type migrationState struct {
	TargetPod    string  `json:"targetPod"`
	EndTimestamp *string `json:"endTimestamp"`
	Completed    bool    `json:"completed"`
	Failed       bool    `json:"failed"`
}

// MigrationTarget is the pod that the machine is being migrated to, empty when it is not. A launcher that defines a domain
// for such a VMI is that pod, for two reasons. KubeVirt's controller writes the target's name into the status in the update
// that sets the label by which the target's node learns of the VMI at all (handleTargetPodHandoff in
// pkg/virt-controller/watch/migration/migration.go), so that no target defines the domain before. And the source's launcher
// defines it once, when it starts the machine, while nothing can be migrated yet (lookupOrCreateVirDomain in
// pkg/virt-launcher/virtwrap/manager.go); later it finds the domain.
func (v *VMI) MigrationTarget() string {
	m := v.Status.MigrationState
	if m == nil || m.Completed || m.Failed || m.EndTimestamp != nil {
		return ""
	}
	return m.TargetPod
}
