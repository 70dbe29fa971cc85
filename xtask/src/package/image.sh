# image.sh IMAGE HOST: Debian 12 with systemd as an ext4 image, and what the directory HOST has for it. It boots as a host
# would, then runs the job of the second disk, and powers off. root.sh of `cargo xtask vm` makes the one without systemd.
set -euo pipefail
image=$1 host=$2
work=$(mktemp -d "$(dirname "$image")/host.XXXXXX")
trap 'rm -rf "$work"' EXIT
mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)
[ -n "$mirror" ] || mirror=$(awk '$1 == "deb" { print $2; exit }' /etc/apt/sources.list)
mmdebstrap --quiet --variant=apt \
  --include=systemd,systemd-sysv,dbus,openssh-server,init-system-helpers,iproute2,kmod,procps,python3,ca-certificates \
  bookworm "$work/root.tar" "deb $mirror bookworm main"
mkdir "$work/root"
tar -C "$work/root" -xf "$work/root.tar"
mkdir "$work/root/opt/test"
cp "$host"/* "$work/root/opt/test/"
cp "$host"/*.service "$work/root/etc/systemd/system/"
systemctl --root "$work/root" enable --quiet test-net.service test-server.service test-prober.service test-late.service
cd "$work/root"
# no network, no mirror: what apt installs is on the second disk
: > etc/apt/sources.list
echo host > etc/hostname
echo "127.0.0.1 localhost host" > etc/hosts
ln -s lib/systemd/systemd vm-init
cat > etc/systemd/system/vm-job.service << 'UNIT'
[Unit]
After=multi-user.target ssh.service
[Service]
Type=oneshot
StandardOutput=tty
StandardError=inherit
TTYPath=/dev/ttyS0
Environment=LC_ALL=C.UTF-8
ExecStart=/bin/sh -c 'mkdir -p /run/job && tar -C /run/job -xf /dev/vdb 2>/dev/null; cd /run/job && ./run; echo VM_RC=$?; sync; touch /run/late; systemctl --no-block poweroff'
TimeoutStartSec=infinity
[Install]
WantedBy=graphical.target
UNIT
mkdir -p etc/systemd/system/graphical.target.wants
ln -s ../vm-job.service etc/systemd/system/graphical.target.wants/
ln -sf /lib/systemd/system/graphical.target etc/systemd/system/default.target
# nobody logs in, and the console is the job's
ln -sf /dev/null etc/systemd/system/serial-getty@ttyS0.service
for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_reap.service systemd-networkd-wait-online.service; do
  ln -sf /dev/null "etc/systemd/system/$unit"
done
cd - > /dev/null
truncate -s 3G "$image.part"
mke2fs -q -t ext4 -d "$work/root" "$image.part"
mv "$image.part" "$image"
