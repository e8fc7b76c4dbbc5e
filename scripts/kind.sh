#!/bin/bash
# Run the end-to-end suite in a kind cluster of its own: create it, build the images, load them, `make e2e`, delete it.
#
# Usage: scripts/kind.sh
#
# It needs kind and docker (or podman, with KIND_EXPERIMENTAL_PROVIDER=podman), and what `make images` needs. All that is
# special to kind is here. From the environment:
#
#   KIND_CLUSTER   the cluster's name (podnic-e2e). One that exists already is an error.
#   KEEP           if set, the cluster stays
set -euo pipefail
cd "$(dirname "$0")/.."

cluster=${KIND_CLUSTER:-podnic-e2e}
work=$(mktemp -d)
export KUBECONFIG=$work/kubeconfig

fail() {
	echo "kind.sh: $*" >&2
	exit 1
}

created=
clean_up() {
	if [[ -n $created && -z ${KEEP:-} ]]; then
		kind delete cluster --name "$cluster"
	fi
	rm -rf "$work"
}
trap clean_up EXIT

command -v kind >/dev/null || fail 'no kind here: https://kind.sigs.k8s.io/docs/user/quick-start/#installation'
! kind get clusters 2>/dev/null | grep -qx "$cluster" || fail "a cluster called $cluster exists: name another one with KIND_CLUSTER"

make images SAVE="$work/images"
created=yes
kind create cluster --name "$cluster" --wait 5m
for archive in "$work"/images/*.tar; do
	kind load image-archive --name "$cluster" "$archive"
done
make e2e
