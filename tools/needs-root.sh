#!/usr/bin/env bash
# Refuse early, and say what works instead: tools/needs-root.sh COMMAND
[ "$(uname -s)" = Linux ] && [ "$(id -u)" = 0 ] && exit 0
echo "$1 boots real nodes on this machine and needs Linux and root. 'make unit' runs every test that needs neither." >&2
exit 2
