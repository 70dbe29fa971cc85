# boot.sh KERNEL IMAGE JOB [ARGUMENT…]: boots a kernel of kernel.sh on the image of root.sh, with the job's directory as a
# second disk, and prints its console. What the guest writes is gone afterwards, unless SNAPSHOT is off. Emulated by
# default: KVM inside of a virtual machine is not to be relied on.
# Without cmpxchg16b, whose flags QEMU 7.2 gets wrong: the allocator of newer kernels uses it, and they fall over at random.
# Without it Linux 7 has no kmalloc_nolock, and BPF no socket storage, unless its caches are checked: hence slab_debug=F.
set -euo pipefail
kernel=$1 image=$2 job=$3; shift 3
version=$(basename "$kernel"/lib/modules/*)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/i/bin "$work"/i/proc "$work"/i/dev "$work"/i/mnt "$work"/i/m
cp "$(command -v busybox)" "$work/i/bin/"
# modules DIRECTORY NAME…: these and what they need, uncompressed, named in the order in which they go in
modules() {
  local to=$1 number=10; shift
  for module in "$@"; do
    # what is built in is no module
    { modprobe -d "$kernel" -S "$version" --show-depends "$module" 2>/dev/null || true; } | awk '/^insmod/ { print $2 }'
  done | awk '!seen[$0]++' | while read -r file; do
    number=$((number + 1)); name=$to/$number-$(basename "$file")
    case $file in
      *.xz) xz -dc "$file" > "${name%.xz}" ;;
      *.zst) zstd -qdc "$file" > "${name%.zst}" ;;
      *) cp "$file" "$name" ;;
    esac
  done
}
modules "$work/i/m" virtio_pci virtio_blk ext4
mkdir -p "$job/modules"
modules "$job/modules" veth tun af_packet sch_ingress
cat > "$work/i/init" << 'INIT'
#!/bin/busybox sh
B=/bin/busybox; $B mount -t proc p /proc; $B mount -t devtmpfs d /dev
for m in /m/*; do $B insmod $m; done 2>/dev/null
i=0; while [ ! -b /dev/vda ] && [ $i -lt 400 ]; do $B sleep 0.05; i=$((i+1)); done
$B mount -t ext4 /dev/vda /mnt
$B umount /proc; exec $B switch_root /mnt /vm-init
INIT
chmod +x "$work/i/init"
(cd "$work/i" && find . | cpio -o -H newc --quiet | gzip -1) > "$work/initrd"
tar -C "$job" -cf "$work/job.tar" .
truncate -s %512 "$work/job.tar"
timeout "${PATIENCE:-900}" qemu-system-x86_64 -accel "${ACCEL:-tcg,thread=multi}" -cpu "${CPU:-max,cx16=off}" -m "${MEMORY:-2048}" -smp 2 -nographic -no-reboot \
  -nodefaults -serial stdio -kernel "$kernel"/boot/vmlinuz-* -initrd "$work/initrd" \
  -drive "file=$image,if=virtio,format=raw,snapshot=${SNAPSHOT:-on}" -drive "file=$work/job.tar,if=virtio,format=raw,snapshot=on" \
  -append "console=ttyS0 panic=-1 quiet loglevel=3 slab_debug=F $*" < /dev/null 2>&1 | sed -u 's|\r||g'
