#!/bin/sh
# Brings a driver of PyPI and the tests in its sources to where they can be run: `drivers.sh DIRECTORY DRIVER`. Done once
# for each version; a second run finds the marker.
set -eu
directory=$1/$2
case $2 in
asyncpg) library=asyncpg==0.31.0 source=asyncpg==0.31.0 ;;
psycopg2) library=psycopg2-binary==2.9.10 source=psycopg2==2.9.10 ;;
*)
    echo "no driver $2 is known: asyncpg, psycopg2" >&2
    exit 2
    ;;
esac
marker="$directory/fetched-$source"
[ -e "$marker" ] && exit 0
rm -rf "$directory"
mkdir -p "$directory/source"
# Debian's Python, which is that of the tests' world, and nothing of the machine's own packages
pip="/usr/bin/python3 -m pip --disable-pip-version-check --quiet"
$pip install --root-user-action ignore --target "$directory/lib" "$library" pytest==9.2.0
$pip download --no-deps --no-binary :all: --dest "$directory/source" "$source"
tar -C "$directory/source" --strip-components=1 -xf "$directory/source/"*.tar.gz
# the tests alone: beside the sources they would import those, which are not built
mv "$directory/source/tests" "$directory/tests"
rm -rf "$directory/source"
: > "$marker"
