#!/usr/bin/env bash
# What waiting for the disk costs: SETs against this node and Redis in each durability, on the same disk.
#
#   bench/durability.sh OUTPUT.md
#
# Programs come from the environment or PATH: PINNACE, BENCH (this repository's release builds), PEER_REDIS.
#   DISK                      folder of the data, on the disk to be measured (a new folder under TMPDIR)
#   MODES                     durabilities of this node ("none async sync")
#   CONNECTIONS               numbers of connections, one request in flight on each ("1 16 64 256")
#   SERVER_CORE, LOAD_CORE    one core for the server (0), one for the generator (1)
#   ROUNDS, SECONDS_EACH      interleaved rounds (3), length of each run (2)
#   LIMIT_SECONDS             no round is begun after this long (170; a round takes about 50)
#   NOTE                      a sentence on the circumstances, put at the top
# A hundred thousand keys, values of 100 bytes, closed loop. Loads go to 127.0.0.1 only.
set -euo pipefail

output=${1:?usage: bench/durability.sh OUTPUT.md}
: "${PINNACE:=target/release/pinnace}" "${BENCH:=target/release/pinnace-bench}" "${PEER_REDIS:=redis-server}"
: "${MODES:=none async sync}" "${CONNECTIONS:=1 16 64 256}" "${SERVER_CORE:=0}" "${LOAD_CORE:=1}"
: "${ROUNDS:=3}" "${SECONDS_EACH:=2}" "${LIMIT_SECONDS:=170}" "${PORT:=21740}"
work=$(mktemp -d)
disk=$(realpath "${DISK:-$work}")/durability-$$
mkdir -p "$disk"
pids=()
trap 'for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; wait; rm -rf "$work" "$disk"' EXIT

names=()
declare -A ports commands
# serve NAME PORT COMMAND...
serve() {
    local name=$1 port=$2
    shift 2
    mkdir -p "$disk/$name"
    (cd "$disk/$name" && exec taskset -c "$SERVER_CORE" "$@" >"$work/$name.log" 2>&1) &
    pids+=($!)
    local up=
    for _ in $(seq 100); do
        if "$BENCH" run "redis://127.0.0.1:$port" -c 1 -n 1 --warm-up 0 --quiet 2>/dev/null; then up=1 && break; fi
        sleep 0.1
    done
    [[ $up ]] || { echo "left out: $name does not start: $(tail -n 1 "$work/$name.log")" >&2; return 0; }
    names+=("$name")
    ports[$name]=$port
    commands[$name]="$(basename "$1") $(printf '%q ' "${@:2}" | sed "s|$disk|DISK|g")"
}

pinnace=$(realpath "$PINNACE")
port=$PORT
for mode in $MODES; do
    serve "pinnace-$mode" "$port" "$pinnace" --port "$port" --peer-port $((port + 1)) --http-port $((port + 2)) \
        --cores "$SERVER_CORE," --memory 1GiB --durability "$mode" --data-dir "$disk/pinnace-$mode"
    port=$((port + 3))
done
redis() { serve "$1" "$port" "$PEER_REDIS" --port "$port" --save '' --appendonly yes --appendfsync "$2" --dir "$disk/$1"; }
redis redis-always always
port=$((port + 1))
redis redis-everysec everysec

for round in $(seq "$ROUNDS"); do
    [[ $SECONDS -lt $LIMIT_SECONDS ]] || { echo "stopped before round $round: $SECONDS s" >&2; break; }
    for connections in $CONNECTIONS; do
        for name in "${names[@]}"; do
            "$BENCH" run "redis://127.0.0.1:${ports[$name]}" --keys 100000 --value-size 100 --mix set \
                --cores "$LOAD_CORE" -c "$connections" -d "${SECONDS_EACH}s" --warm-up 300ms --quiet \
                --json "$work/$connections.$name.$round.json" || true
        done
    done
done
for name in "${names[@]}"; do echo "$name ${commands[$name]}"; done >"$work/commands.txt"

python3 - "$work" "$output" "$0" "$(df --output=fstype "$disk" | tail -n 1)" <<'PYTHON'
import collections, glob, json, os, statistics, sys
work, output, script, filesystem = sys.argv[1:5]
runs = collections.defaultdict(list)
for path in glob.glob(f"{work}/*.*.*.json"):
    connections, name = os.path.basename(path).split(".")[:2]
    runs[int(connections), name].append(json.load(open(path)))
if not runs:
    sys.exit("no run was measured")
servers = [line.strip().partition(" ")[::2] for line in open(f"{work}/commands.txt")]
first = next(iter(runs.values()))[0]
environment = first["environment"]

def cell(found, of):
    values = [of(run) for run in found]
    middle = statistics.median(values)
    spread = (max(values) - min(values)) / 2 / middle * 100 if middle else 0
    return f"{middle:,.0f} ± {spread:.0f} %".replace(",", " ")

us = lambda name: lambda run: run["total"][name] / 1000
columns = [("SETs a second", lambda run: run["achieved_rate"]), ("p50, us", us("p50_ns")), ("p99, us", us("p99_ns")),
           ("p99.9, us", us("p999_ns")), ("max, us", us("max_ns")),
           ("server CPU, ns", lambda run: (run["server_side"] or {}).get("cpu_ns_per_request", 0))]
out = ["# What waiting for the disk costs\n\n",
       f"Written by `{script}` on {environment['cpu_count']} x {environment['cpu']}, kernel {environment['kernel']}, "
       f"{filesystem.strip()}, commit {first['commit']}. SETs of 100 bytes, one in flight a connection, closed loop; server and "
       f"generator on a core each. Medians of {max(map(len, runs.values()))} interleaved rounds of "
       f"{first['load']['duration_s']:.0f} s, ± half of their range. Load average at the start: "
       f"{environment['load_average']}.\n"]
if os.environ.get("NOTE"):
    out.append(f"\n**{os.environ['NOTE']}**\n")
out.append("\nServers, in folders of one disk:\n\n")
for name, command in servers:
    out.append(f"- {name}: {next(r[0]['server'] for (_, who), r in runs.items() if who == name)}, `{command.strip()}`\n")
for connections in sorted({key[0] for key in runs}):
    out.append(f"\n### {connections} connections\n\n| | " + " | ".join(title for title, _ in columns) + " |\n|---|" +
               "---|" * len(columns) + "\n")
    for name, _ in servers:
        found = runs.get((connections, name))
        if found:
            out.append(f"| {name} | " + " | ".join(cell(found, of) for _, of in columns) + " |\n")
warnings = collections.Counter(f"{name}: {warning}" for (_, name), found in runs.items()
                               for run in found for warning in run["warnings"])
if warnings:
    out.append("\n### Warnings of the runs\n\n")
    out.extend(f"- {warning} (x {times})\n" for warning, times in warnings.most_common(12))
os.makedirs(os.path.dirname(output) or ".", exist_ok=True)
open(output, "w").write("".join(out))
PYTHON
echo "wrote $output"
