# The first process of the daemon's PID namespace: makes the private directories, then holds the namespaces until its
# standard input ends.
# Usage: DIRECTORY [kvm]
set -e
work=$1
kvm=$2

# Files that are bound from the machine must be so before /dev, /run and /proc are covered.
dev=$work/dev
mount -t tmpfs -o mode=755 tmpfs "$dev"
mkdir "$dev/net" "$dev/pts" "$dev/shm"
for node in null zero full random urandom tty net/tun $kvm; do
	: >"$dev/$node"
	mount --bind "/dev/$node" "$dev/$node"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$dev/shm"
ln -s pts/ptmx "$dev/ptmx"
ln -s /proc/self/fd "$dev/fd"

mount -t proc proc /proc
mount --rbind "$dev" /dev
mount -t tmpfs -o mode=755 tmpfs /run
mount --bind "$work/etc" /etc/libvirt
mount --bind "$work/passwd" /etc/passwd
mount --bind "$work/group" /etc/group
for name in lib cache log; do
	mount --bind "$work/$name" "/var/$name/libvirt"
done
echo ready

# Orphans become children of this process. With the signal ignored, the kernel does not keep them for somebody to wait for.
exec env --ignore-signal=CHLD cat >/dev/null
