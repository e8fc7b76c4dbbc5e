# The first process of a container's PID namespace, in the pod's network namespace: makes the container's file system of a
# root and what a layer adds to it, moves into it, and holds the namespaces until its standard input ends.
# Usage: HOSTNAME ROOT DIRECTORY ETC [kvm]
set -e
hostname=$1 lower=$2 work=$3 etc=$4 kvm=$5

mount --make-rprivate /
echo "$hostname" >/proc/sys/kernel/hostname
mount -t tmpfs -o mode=755 tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay -o "lowerdir=$lower,upperdir=$work/upper,workdir=$work/work" overlay "$work/root"

root=$work/root
# What a container engine writes, whatever the image has.
cp "$etc/resolv.conf" "$etc/hosts" "$root/etc/"
echo "$hostname" >"$root/etc/hostname"
dev=$root/dev
mount -t tmpfs -o mode=755 tmpfs "$dev"
mkdir "$dev/net" "$dev/pts" "$dev/shm"
for node in null zero full random urandom tty $kvm; do
	: >"$dev/$node"
	mount --bind "/dev/$node" "$dev/$node"
done
mknod -m 0666 "$dev/net/tun" c 10 200 # as udev makes it on a node
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$dev/shm"
ln -s pts/ptmx "$dev/ptmx"
ln -s /proc/self/fd "$dev/fd"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"

cd "$root"
mkdir old
pivot_root . old
umount -l /old
rmdir /old
echo ready

# Orphans become children of this process. With the signal ignored, the kernel does not keep them for somebody to wait for.
exec env --ignore-signal=CHLD cat >/dev/null
