#!/bin/sh
# Brings PostgreSQL's own tests to where they can be run: `postgres.sh DIRECTORY`. The sources are those of the server that
# is installed, so that what they expect is what it does. Done once; a second run finds the marker.
set -eu
directory=$1
version=$(dpkg-query -W -f '${source:Version}' postgresql-15)
marker="$directory/built-$version"
[ -e "$marker" ] && exit 0
rm -rf "$directory"
mkdir -p "$directory/apt/lists/partial" "$directory/apt/cache/archives/partial"
cd "$directory"
# a private apt configuration: the machine's own lists stay as they are
cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null | sed -n 's/^deb /deb-src /p' > apt/sources.list
sed -n '/^Types:/s/deb$/deb-src/p; /^\(URIs\|Suites\|Components\|Signed-By\):/p; /^$/p' \
    /etc/apt/sources.list.d/*.sources > apt/sources.sources 2>/dev/null || true
parts=$directory/apt/parts
mkdir -p "$parts"
[ -s apt/sources.sources ] && mv apt/sources.sources "$parts/source.sources"
options="-o Dir::Etc::sourcelist=$directory/apt/sources.list -o Dir::Etc::sourceparts=$parts \
 -o Dir::State::lists=$directory/apt/lists -o Dir::Cache=$directory/apt/cache -o APT::Sandbox::User=root"
# shellcheck disable=SC2086
apt-get $options -qq update
# the sources of a security release are not on every mirror: then those of the release before, which has the same tests
# shellcheck disable=SC2086
for known in "$version" $(apt-cache $options madison postgresql-15 | awk '{print $3}' | sort -Vru); do
    # shellcheck disable=SC2086
    apt-get $options -qq --download-only source "postgresql-15=$known" && break
done
mkdir source
tar -C source --strip-components=1 -xf postgresql-15_*.orig.tar.*
rm -rf apt postgresql-15_*
cd source
./configure --quiet --without-readline --without-zlib --without-icu --prefix=/usr/lib/postgresql/15 > ../configure.log 2>&1
make --silent -C src/test/regress all > ../make.log 2>&1
make --silent -C src/test/isolation all >> ../make.log 2>&1
make --silent -C contrib/spi >> ../make.log 2>&1
: > "$marker"
