#!/usr/bin/env bash
# What waiting for the disk costs: SETs against this node and Redis in each durability, on the same disk; the share of what
# the disk can do (with fio, if it is there); how fast a log is replayed.
#
#   bench/durability.sh OUTPUT.md
#
# Programs come from the environment or PATH: PINNACE, BENCH (this repository's release builds), PEER_REDIS.
#   DISK                      folder of the data, on the disk to be measured (a new folder under TMPDIR)
#   MODES                     durabilities of this node ("none async sync")
#   CONNECTIONS               numbers of connections, one request in flight on each ("1 16 64 256")
#   SERVER_CORE, LOAD_CORE    one core for the server (0), one for the generator (1)
#   ROUNDS, SECONDS_EACH      interleaved rounds (3), length of each run (2)
#   LIMIT_SECONDS             no round is begun after this long, no replay after twice that (170; a round takes about 50)
#   REPLAYS                   logs to be replayed on both cores, as KEYS:VALUE_BYTES ("10000000:32 2000000:1024", 4 GB of disk)
#   NOTE                      a sentence on the circumstances, put at the top
# A hundred thousand keys, values of 100 bytes, closed loop. Loads go to 127.0.0.1 only.
set -euo pipefail

output=${1:?usage: bench/durability.sh OUTPUT.md}
: "${PINNACE:=target/release/pinnace}" "${BENCH:=target/release/pinnace-bench}" "${PEER_REDIS:=redis-server}"
: "${MODES:=none async sync}" "${CONNECTIONS:=1 16 64 256}" "${SERVER_CORE:=0}" "${LOAD_CORE:=1}"
: "${ROUNDS:=3}" "${SECONDS_EACH:=2}" "${LIMIT_SECONDS:=170}" "${PORT:=21740}"
: "${REPLAYS=10000000:32 2000000:1024}"
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

# Flushes and written sectors of the disk so far; whatever else writes to it is in there.
device=/sys/dev/block/$(mountpoint -d "$(df --output=target "$disk" | tail -n 1)")/stat
counters() { awk '{print $16, $7}' "$device" 2>/dev/null || echo 0 0; }

for round in $(seq "$ROUNDS"); do
    [[ $SECONDS -lt $LIMIT_SECONDS ]] || { echo "stopped before round $round: $SECONDS s" >&2; break; }
    for connections in $CONNECTIONS; do
        for name in "${names[@]}"; do
            before=$(counters)
            "$BENCH" run "redis://127.0.0.1:${ports[$name]}" --keys 100000 --value-size 100 --mix set \
                --cores "$LOAD_CORE" -c "$connections" -d "${SECONDS_EACH}s" --warm-up 300ms --quiet \
                --json "$work/$connections.$name.$round.json" || true
            echo "$connections $name $before $(counters)" >>"$work/flushes.txt"
        done
    done
done
for name in "${names[@]}"; do echo "$name ${commands[$name]}"; done >"$work/commands.txt"
for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
wait
pids=()

# What the disk can do: direct writes of as many bytes as the node wrote for a flush, each followed by a flush.
command -v fio >/dev/null && for connections in $CONNECTIONS; do
    bytes=$(awk -v c="$connections" '$1 == c && $2 == "pinnace-sync" { flushes += $5 - $3; sectors += $6 - $4 }
        END { if (flushes) print 4096 * int((512 * sectors / flushes + 4095) / 4096) }' "$work/flushes.txt")
    [[ $bytes ]] || continue
    # The first pass writes the file once, as the node does with its segments.
    for pass in 64 "64 --time_based --runtime=$SECONDS_EACH --fdatasync=1 --output-format=json"; do
        # shellcheck disable=SC2086
        taskset -c "$SERVER_CORE" fio --name=limit --filename="$disk/limit" --rw=write --direct=1 --bs="$bytes" \
            --ioengine=psync --overwrite=1 --output="$work/fio.$connections.json" --size=${pass/64/64m}
    done
done
rm -f "$disk/limit"

# replay KEYS VALUE_BYTES: writes a log with two cores and replays it.
replay() {
    local data=$disk/replay
    local flags=(--port "$PORT" --peer-port $((PORT + 1)) --http-port $((PORT + 2)) --cores "$SERVER_CORE,$LOAD_CORE"
        --memory 4GiB --durability async --data-dir "$data")
    "$pinnace" "${flags[@]}" >"$work/replay.log" 2>&1 &
    local pid=$!
    pids=("$pid")
    for _ in $(seq 100); do
        "$BENCH" run "pinnace://127.0.0.1:$PORT" -c 1 -n 1 --warm-up 0 --quiet 2>/dev/null && break
        sleep 0.1
    done
    "$BENCH" run "pinnace://127.0.0.1:$PORT" --keys "$1" --value-size "$2" -c 4 -t 2 -p 256 --mix get -n 1000 --preload --quiet
    kill "$pid"
    wait "$pid" || true
    pids=()
    for _ in $(seq "$ROUNDS"); do
        "$pinnace" "${flags[@]}" --wal-replay 2>/dev/null | sed -n "s/^replayed: /$2 /p" >>"$work/replays.txt"
    done
    rm -rf "$data"
}
for log in $REPLAYS; do
    [[ $SECONDS -lt $((2 * LIMIT_SECONDS)) ]] || { echo "left out: replay of $log: $SECONDS s" >&2; continue; }
    replay "${log%:*}" "${log#*:}"
done

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

flushes = collections.defaultdict(list)
for line in open(f"{work}/flushes.txt"):
    connections, name, *numbers = line.split()
    before, _, after, _ = map(int, numbers)
    # The warm-up of 0.3 s is part of it.
    flushes[int(connections), name].append((after - before) / (first["load"]["duration_s"] + 0.3))
limits = {}
for path in glob.glob(f"{work}/fio.*.json"):
    job = json.load(open(path))["jobs"][0]
    limits[int(path.split(".")[-2])] = (int(job["job options"]["bs"]), job["write"]["iops"])
if limits:
    out.append("\n### Share of the disk's own limit\n\nFlushes a second while `pinnace-sync` was measured (whatever else used the disk "
               "included), beside fio with a write of as many bytes before each (`--rw=write --direct=1 --ioengine=psync "
               "--fdatasync=1`).\n\n| connections | bytes a flush | node | fio | share |\n|---|---|---|---|---|\n")
    for connections, (size, limit) in sorted(limits.items()):
        rate = statistics.median(flushes[connections, "pinnace-sync"])
        out.append(f"| {connections} | {size} | {rate:.0f} | {limit:.0f} | {rate / limit:.2f} |\n")
if os.path.exists(f"{work}/replays.txt"):
    out.append("\n### Replay\n\n`pinnace --wal-replay` on two cores, each line a run.\n\n| bytes a value | |\n|---|---|\n")
    out.extend("| {} | {} |\n".format(*line.strip().split(" ", 1)) for line in open(f"{work}/replays.txt"))

warnings = collections.Counter(f"{name}: {warning}" for (_, name), found in runs.items()
                               for run in found for warning in run["warnings"])
if warnings:
    out.append("\n### Warnings of the runs\n\n")
    out.extend(f"- {warning} (x {times})\n" for warning, times in warnings.most_common(12))
os.makedirs(os.path.dirname(output) or ".", exist_ok=True)
open(output, "w").write("".join(out))
PYTHON
echo "wrote $output"
