#!/usr/bin/env bash
# Installs what tests/run.sh needs, where it is missing: redis-cli, redis-benchmark and a redis-server to compare
# with, Python packages in tests/.venv, Node clients in tests/node. Works on a fresh Debian or Ubuntu as root (or
# with sudo); does nothing twice. memtier_benchmark is used when it is on PATH; nothing here builds it.
set -euo pipefail
cd "$(dirname "$0")"

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
        echo "tests/setup.sh: needs root for: $*" >&2
        return 1
    fi
}

packages=()
command -v redis-cli >/dev/null && command -v redis-benchmark >/dev/null || packages+=(redis-tools)
command -v redis-server >/dev/null || packages+=(redis-server)
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
command -v setpriv >/dev/null && command -v prlimit >/dev/null && command -v unshare >/dev/null || packages+=(util-linux)
command -v ip >/dev/null || packages+=(iproute2)
python3 -c 'import redis, hiredis, pytest' 2>/dev/null || python3 -c 'import ensurepip' 2>/dev/null ||
    packages+=(python3-venv)
if [ "${#packages[@]}" -gt 0 ]; then
    as_root apt-get update -q
    # The package starts a server of its own otherwise; the tests start theirs.
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -q -y --no-install-recommends "${packages[@]}"
fi

if ! python3 -c 'import redis, hiredis, pytest' 2>/dev/null && ! .venv/bin/python -c 'import redis, hiredis, pytest' 2>/dev/null; then
    python3 -m venv .venv
    .venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
fi

if [ ! -d node/node_modules/ioredis ] || [ ! -d node/node_modules/redis ]; then
    (cd node && npm ci --no-progress --loglevel=error)
fi
echo "tests/setup.sh: ready"
