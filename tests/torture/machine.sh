#!/bin/bash
# machine.sh KERNEL HOST PAYLOAD WORK
#
# Make what a machine is started from, in the directory WORK: initrd.img, root.img with the root filesystem HOST and in
# its /opt the directory PAYLOAD, and an empty disk of each kind of filesystem. Tools and modules are those of the root
# KERNEL. Runs as root in a mount namespace of its own ("unshare --mount").
set -eu
kernel=$1 host=$2 payload=$3 work=$4
mkdir -p "$work/host" "$work/initrd/root"
for module in virtio virtio_ring virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk libcrc32c xfs; do
	find "$kernel/lib/modules" -name "$module.ko" -exec cp {} "$work/initrd" \;
done
cp "$kernel/bin/busybox" "$work/initrd"
# "fs" is a word of the kernel's command line
cat >"$work/initrd/init" <<'END'
#!/busybox sh
for module in virtio virtio_ring virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk; do
	/busybox insmod /$module.ko
done
if [ "$fs" = xfs ]; then
	/busybox insmod /libcrc32c.ko
	/busybox insmod /xfs.ko
fi
/busybox mount -t devtmpfs devtmpfs /dev
/busybox mount -t ext4 -o ro /dev/vda /root
/busybox mount -t devtmpfs devtmpfs /root/dev
/busybox mount -t proc proc /root/proc
/busybox mount -t tmpfs tmpfs /root/tmp
/busybox mount -t "$fs" /dev/vdb /root/mnt
exec /busybox chroot /root /usr/bin/python3 -I /opt/guest.py </dev/ttyS1 >/dev/ttyS1
END
chmod 755 "$work/initrd/init"
mount --bind "$work" "$kernel/tmp"
mount --bind "$host" "$kernel/tmp/host"
mount --bind "$payload" "$kernel/tmp/host/opt"
PATH=/sbin:/bin chroot "$kernel" busybox sh -eu <<'END'
cd /tmp
busybox truncate -s 512M root.img ext4.img xfs.img
mkfs.ext4 -q -d host root.img
mkfs.ext4 -q ext4.img
mkfs.xfs -q xfs.img
cd initrd
busybox find . | busybox cpio -o -H newc >../initrd.img
END
