# Run in a mount and a UTS namespace of its own: what a pod's program sees of the pod besides its network.
# Usage: HOSTNAME DIRECTORY PROGRAM [ARGUMENT...], with the pod's files of /etc in the directory
set -e
echo "$1" >/proc/sys/kernel/hostname
for file in resolv.conf hosts; do
	[ -e "/etc/$file" ] || { echo "/etc/$file is missing: run scripts/setup" >&2; exit 1; }
	mount --bind "$2/$file" "/etc/$file"
done
# sysfs shows the links of the namespace that it was mounted in.
mount -t sysfs sysfs /sys
shift 2
exec "$@"
