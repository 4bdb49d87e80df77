#!/usr/bin/env bash
# Runs the real-process tests. Last line: "N passed, N failed"; exit code 0 only without failures.
#
#   PINNACE=path/to/pinnace tests/run.sh [--long] [--redis BINARY | --target HOST:PORT] [pytest arguments]
#
# Without arguments everything that fits in about five minutes on two cores. `tests/setup.sh` installs
# what is needed; tools are found on PATH, Python packages in tests/.venv or in the python3 on PATH.
set -u
cd "$(dirname "$0")" || exit 2

python=python3
[ -x .venv/bin/python ] && python="$PWD/.venv/bin/python"
if ! "$python" -c 'import redis, hiredis, pytest' 2>/dev/null; then
    echo "tests/run.sh: redis-py, hiredis or pytest is missing: run tests/setup.sh" >&2
    echo "0 passed, 1 failed"
    exit 2
fi
if [ -n "${PINNACE:-}" ]; then
    case "$PINNACE" in /*) ;; *) PINNACE="$OLDPWD/$PINNACE" ;; esac
    export PINNACE
fi

# Ten thousand connections need descriptors on both sides; nodes inherit the limit.
ulimit -n "$(ulimit -Hn)" 2>/dev/null

limit=900
for argument in "$@"; do
    [ "$argument" = --long ] && limit=14400
done

PINNACE_TEST_COUNTS="$(mktemp)"
export PINNACE_TEST_COUNTS PYTHONDONTWRITEBYTECODE=1
timeout --kill-after=30 "$limit" "$python" -m pytest "$@"
code=$?
if ! read -r passed failed skipped <"$PINNACE_TEST_COUNTS"; then
    passed=0 failed=1 skipped=0
fi
rm -f "$PINNACE_TEST_COUNTS"
if [ "$code" -ne 0 ] && [ "$failed" -eq 0 ]; then
    echo "tests/run.sh: pytest ended with code $code (124: over the time limit of $limit s)"
    failed=1
fi
[ "$skipped" -gt 0 ] && echo "$skipped skipped (reasons above)"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$code" -eq 0 ]
