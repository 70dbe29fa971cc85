# kernel.sh DIRECTORY SUITE: the newest cloud kernel of a Debian suite into DIRECTORY, installing nothing. The mirror is
# the one that apt uses here.
set -euo pipefail
directory=$1 suite=$2
mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)
[ -n "$mirror" ] || mirror=$(awk '$1 == "deb" { print $2; exit }' /etc/apt/sources.list)
apt=$directory/apt
rm -rf "$directory"; mkdir -p "$apt"/state/lists/partial "$apt"/cache/archives/partial; : > "$apt/status"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] $mirror $suite main" > "$apt/sources.list"
options=(-o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State=$apt/state"
  -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt/cache" -o Acquire::Check-Valid-Until=false
  -o APT::Architecture=amd64 -o APT::Sandbox::User=root)
apt-get "${options[@]}" update -qq
package=$(apt-cache "${options[@]}" depends linux-image-cloud-amd64 |
  sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
# newer packages keep the modules in one of their own
modules=$(apt-cache "${options[@]}" depends "$package" | sed -n 's/^ *Depends: \(linux-\(modules\|binary\)-[0-9].*\)$/\1/p')
cd "$directory"
apt-get "${options[@]}" download -qq "$package" $modules
for deb in ./*.deb; do dpkg-deb -x "$deb" .; done
rm -rf ./*.deb "$apt"
# newer packages keep modules under usr/lib
[ -d lib/modules ] || { mkdir -p lib && mv usr/lib/modules lib/modules; }
# and the kernel beside them
ls boot/vmlinuz-* > /dev/null 2>&1 || { mkdir -p boot && cp lib/modules/*/vmlinuz "boot/vmlinuz-$(basename lib/modules/*)"; }
depmod -b "$directory" "$(basename lib/modules/*)"
