#!/bin/bash
# Run the end-to-end suite in a kind cluster of its own: build the images, create it, load them, `make e2e`, delete it.
#
# Usage: scripts/kind.sh
#
# It needs kind and docker (or podman, with KIND_EXPERIMENTAL_PROVIDER=podman), and what `make images` needs. All that is
# special to kind is here. From the environment:
#
#   KIND_CLUSTER   the cluster's name (podnic-e2e). One that exists already is an error.
#   KIND_IMAGE     the image of its node, which decides the version of Kubernetes; otherwise kind's default
#   KEEP           if set, the cluster stays, and the file for KUBECONFIG
#
# The cluster is one node: a container that has a directory of this run mounted. By that it is known, and nothing else is
# deleted, since somebody may make a cluster of the same name at any moment. When something fails, the node's logs are saved in
# ${PODNIC_CACHE:-.cache}/kind first.
set -euo pipefail
cd "$(dirname "$0")/.."

cluster=${KIND_CLUSTER:-podnic-e2e}
logs=${PODNIC_CACHE:-$PWD/.cache}/kind/$cluster

say() { echo "kind.sh: $*" >&2; }

fail() {
	say "$*"
	exit 1
}

# step COMMAND... runs it as a process group of its own, so that a signal reaches this script at once, and the step by it.
step() {
	local status=0
	before=${!:-} running=starting
	set -m
	"$@" </dev/null &
	running=$!
	set +m
	wait "$running" || status=$?
	running=
	return $status
}

# end_step ends what runs. The engine's client that kind waits for is left to finish: a node that the engine was asked for, and
# that appears after all have been deleted, would stay.
end_step() {
	# A signal may come between a step's start and the line that knows its number.
	if [[ $running == starting ]]; then
		running=${!:-}
		[[ $running != "$before" ]] || running=
	fi
	[[ -n $running ]] || return 0
	local group=-$running
	[[ -z $creating ]] || group=$running
	kill -TERM -- "$group" 2>/dev/null || true
	wait "$running" 2>/dev/null || true
	local i
	for ((i = 0; i < 300; i++)); do # half a minute; there is no notice of a group's end
		kill -0 -- "-$running" 2>/dev/null || break
		sleep 0.1
	done
}

own_nodes() { "$engine" ps --all --no-trunc --format '{{.ID}}' --filter "volume=$work/mark"; }

# delete_nodes deletes them by their ids, which nobody else's container gets. With podman kind names a node's volume, and podman
# then does not take it for the container's.
delete_nodes() {
	local ids volumes volume
	mapfile -t ids <<<"$nodes"
	volumes=$("$engine" inspect --format '{{range .Mounts}}{{if eq .Type "volume"}}{{println .Name}}{{end}}{{end}}' "${ids[@]}") &&
		"$engine" rm --force --volumes "${ids[@]}" >/dev/null || return 1
	for volume in $volumes; do
		if "$engine" volume inspect "$volume" >/dev/null 2>&1; then
			"$engine" volume rm "$volume" >/dev/null || return 1
		fi
	done
}

# clean_up STATUS ends this script. A second signal does not end the clean-up: one that comes before it is ignored runs all of
# it.
clean_up() {
	local status=$1 nodes
	trap '' HUP INT TERM
	trap - EXIT
	end_step
	rm -rf "$work/images"
	if ! nodes=$(own_nodes); then
		say "$engine does not list its containers: if the cluster $cluster is there, it has the directory $work/mark mounted; delete it by hand"
		exit 1
	fi
	if [[ -z $nodes ]]; then
		rm -rf "$work"
		exit "$status"
	fi
	if [[ $status -ne 0 && -z $told ]]; then
		rm -rf "$logs"
		if kind export logs --name "$cluster" "$logs" >/dev/null; then
			say "the node's logs are in $logs"
		else
			say 'the node has given no logs'
		fi
	fi
	if [[ -n ${KEEP:-} ]]; then
		say "the cluster $cluster stays: export KUBECONFIG=$KUBECONFIG; to delete it: kind delete cluster --name $cluster"
		exit "$status"
	fi
	if ! delete_nodes; then
		say "the cluster $cluster could not be deleted"
		exit 1
	fi
	say "the cluster $cluster is deleted"
	rm -rf "$work"
	exit "$status"
}

command -v kind >/dev/null || fail 'no kind here: https://kind.sigs.k8s.io/docs/user/quick-start/#installation'
[[ $cluster =~ ^[a-z0-9.-]+$ ]] || fail "KIND_CLUSTER=$cluster: a cluster's name has small letters, digits, dots and hyphens"

# The engine that kind would take, and then takes.
engine=${KIND_EXPERIMENTAL_PROVIDER:-}
if [[ -z $engine ]]; then
	engine=docker
	[[ $(docker -v 2>/dev/null) == 'Docker version '* ]] || ! command -v podman >/dev/null || engine=podman
fi
export KIND_EXPERIMENTAL_PROVIDER=$engine
said=$("$engine" info 2>&1) || fail "$engine does not work here: $(tail -n1 <<<"$said")"
clusters=$(kind get clusters) || fail 'kind does not list its clusters'
! grep -qxF -- "$cluster" <<<"$clusters" || fail "a cluster called $cluster exists: name another one with KIND_CLUSTER"

work=$(realpath "$(mktemp -d)")
mkdir "$work/mark"
export KUBECONFIG=$work/kubeconfig
running='' creating='' told=''
trap 'clean_up $?' EXIT
trap 'told=yes; clean_up 129' HUP
trap 'told=yes; clean_up 130' INT
trap 'told=yes; clean_up 143' TERM

cat >"$work/cluster.yaml" <<END
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
- role: control-plane
  extraMounts:
  - hostPath: $work/mark
    containerPath: /podnic-e2e
    readOnly: true
END

step make images SAVE="$work/images"
creating=yes
# kind itself would delete all nodes of that name when it fails, another's too.
step kind create cluster --name "$cluster" --config "$work/cluster.yaml" --retain --wait 5m ${KIND_IMAGE:+--image "$KIND_IMAGE"}
creating=
for archive in "$work"/images/*.tar; do
	step kind load image-archive --name "$cluster" "$archive"
done
step make e2e
