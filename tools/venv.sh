#!/usr/bin/env bash
# Make the checkout's virtual environment: tools/venv.sh PYTHON FOLDER
set -euo pipefail
python=$1 folder=$2
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "Stoker needs Python 3.11 or later, and $python is $("$python" --version 2>&1 || echo missing). Set PYTHON=/path/to/python3.11." >&2
    exit 2
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing python3-venv, which Debian keeps apart from python3" >&2
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
    else
        echo "$python has no venv module: install it (Debian: apt-get install python3-venv)." >&2
        exit 2
    fi
fi
echo "installing Stoker and its development tools into $folder" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "$python" -m venv "$folder" && "$folder/bin/python" -m pip install --quiet uv && "$folder/bin/uv" pip install --quiet --python "$folder/bin/python" -e '.[dev]'; } >"$log" 2>&1; then
    cat "$log" >&2
    echo "the packages could not be installed; see above." >&2
    exit 1
fi
