# root.sh IMAGE [PACKAGE…]: a minimal Debian 12 with these packages as an ext4 image, whose init becomes the job of the second disk.
set -euo pipefail
image=$1; shift
packages=iproute2,kmod,mount,procps,python3
for package in "$@"; do packages=$packages,$package; done
work=$(mktemp -d "$(dirname "$image")/root.XXXXXX")
trap 'rm -rf "$work"' EXIT
mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)
[ -n "$mirror" ] || mirror=$(awk '$1 == "deb" { print $2; exit }' /etc/apt/sources.list)
mmdebstrap --quiet --variant=apt --include="$packages" bookworm "$work/root.tar" \
  "deb $mirror bookworm main"
mkdir "$work/root"
tar -C "$work/root" -xf "$work/root.tar"
cat > "$work/root/vm-init" << 'INIT'
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev 2>/dev/null
mount -t tmpfs t /tmp; mount -t tmpfs t /run; mount -t cgroup2 c /sys/fs/cgroup; mount -t bpf b /sys/fs/bpf
mount -t securityfs s /sys/kernel/security; mount -t tracefs t /sys/kernel/tracing 2>/dev/null
ip link set lo up
# the job is pid 1 from here on, and powers off
mkdir /tmp/job; tar -C /tmp/job -xf /dev/vdb 2>/dev/null; cd /tmp/job && exec ./run
INIT
chmod +x "$work/root/vm-init"
truncate -s 3G "$image.part"
mke2fs -q -t ext4 -d "$work/root" "$image.part"
mv "$image.part" "$image"
