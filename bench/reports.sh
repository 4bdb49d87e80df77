#!/usr/bin/env bash
# Measures this node against its rivals, side by side on this machine, and writes a report in Markdown.
#
#   bench/reports.sh OUTPUT.md
#
# Programs come from the environment or PATH; rivals that are missing are left out:
#   PINNACE, BENCH        this repository's release builds
#   PEER_REDIS, PEER_MEMCACHED, PEER_POGOCACHE, PEER_VALKEY, PEER_KEVY
#   MEMTIER, REDIS_BENCHMARK, WRK     other generators, for the cost of the generator itself
#   NULL_RESPONDER                the example of that name, for the generator's own ceiling
#   PORT                          seven ports from the next one on are used (7860)
#   SERVER_CORE, LOAD_CORE        one core for the server (0), one for the generator (1)
#   ROUNDS, SECONDS_EACH          interleaved rounds (3), length of each run (1)
#   LIMIT_SECONDS                 no round is begun after this long (420): all of it ends within ten minutes
#   WRAP                          words before each server and each generator, as `nice -n -20` on a machine that
#                                 others use at the same time; the report tells them
#   NOTE                          a sentence on the circumstances, put at the top
# Every server gets one thread on one core and 1 GiB, a million keys of 11 bytes with values of 32 bytes, and
# 50 connections, each with a key sequence of its own. Loads go to 127.0.0.1 only.
set -euo pipefail

output=${1:?usage: bench/reports.sh OUTPUT.md}
: "${PINNACE:=target/release/pinnace}" "${BENCH:=target/release/pinnace-bench}"
: "${PEER_REDIS:=redis-server}" "${PEER_MEMCACHED:=memcached}" "${PEER_POGOCACHE:=pogocache}"
: "${PEER_VALKEY:=valkey-server}" "${MEMTIER:=memtier_benchmark}" "${REDIS_BENCHMARK:=redis-benchmark}"
: "${PEER_KEVY:=kevy}" "${WRK:=wrk}" "${NULL_RESPONDER:=target/release/examples/null_responder}"
: "${PORT:=7860}" "${SERVER_CORE:=0}" "${LOAD_CORE:=1}" "${ROUNDS:=3}" "${SECONDS_EACH:=1}" "${LIMIT_SECONDS:=420}"
: "${WRAP:=}"
keys=1000000
read -ra wrap <<<"$WRAP"
work=$(mktemp -d)
pids=()
trap 'for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; rm -rf "$work"' EXIT

have() { command -v "$1" >/dev/null 2>&1; }

# serve NAME URL COMMAND...: starts a server on its core and fills it.
names=()
declare -A urls commands
serve() {
    local name=$1 url=$2
    shift 2
    (cd "$work" && exec taskset -c "$SERVER_CORE" "${wrap[@]}" "$@" >"$work/$name.log" 2>&1) &
    pids+=($!)
    local up=
    for _ in $(seq 100); do
        if "$BENCH" run "$url" -c 4 -n 4 --warm-up 0 --quiet 2>/dev/null; then up=1 && break; fi
        sleep 0.1
    done
    [[ $up ]] || { echo "left out: $name does not start: $(tail -n 1 "$work/$name.log")" >&2; return 0; }
    "$BENCH" run "$url" --preload --keys $keys --cores "$LOAD_CORE" -c 50 -p 16 -n 50 --warm-up 0 --quiet
    names+=("$name")
    urls[$name]=$url
    commands[$name]="$(basename "$1") $(printf '%q ' "${@:2}")"
}

absolute() { [[ $1 == */* ]] && realpath "$1" || command -v "$1"; }
serve pinnace redis://127.0.0.1:$((PORT + 1)) "$(absolute "$PINNACE")" --port $((PORT + 1)) --cores "$SERVER_CORE," --memory 1GiB
names+=(pinnace-native)
urls[pinnace-native]=pinnace://127.0.0.1:$((PORT + 1))
have "$PEER_REDIS" && serve redis redis://127.0.0.1:$((PORT + 2)) "$PEER_REDIS" --port $((PORT + 2)) --save '' --appendonly no
have "$PEER_VALKEY" && serve valkey redis://127.0.0.1:$((PORT + 3)) "$PEER_VALKEY" --port $((PORT + 3)) --save '' --appendonly no
have "$PEER_MEMCACHED" &&
    serve memcached memcache://127.0.0.1:$((PORT + 4)) "$PEER_MEMCACHED" -p $((PORT + 4)) -U 0 -t 1 -m 1024 -u "$(id -un)"
have "$PEER_POGOCACHE" &&
    serve pogocache redis://127.0.0.1:$((PORT + 5)) "$PEER_POGOCACHE" -h 127.0.0.1 -p $((PORT + 5)) --threads 1
# One shard, without its log.
have "$PEER_KEVY" && serve kevy redis://127.0.0.1:$((PORT + 6)) "$PEER_KEVY" --port $((PORT + 6)) --threads 1 --no-aof --dir .

# measure NAME LABEL ARGS...: one run; keeps the result if it is complete.
measure() {
    local name=$1 label=$2
    shift 2
    "${wrap[@]}" "$BENCH" run "${urls[$name]}" --keys $keys --cores "$LOAD_CORE" -c 50 -d "${SECONDS_EACH}s" \
        --warm-up 500ms --quiet --json "$work/$label.$name.$RANDOM$RANDOM.json" "$@" || true
}

for round in $(seq "$ROUNDS"); do
    [[ $SECONDS -lt $LIMIT_SECONDS ]] || { echo "stopped before round $round: $SECONDS s" >&2; break; }
    for name in "${names[@]}"; do
        for pipeline in 1 16 64; do
            measure "$name" "get-$pipeline" -p $pipeline
            measure "$name" "set-$pipeline" -p $pipeline --mix set
        done
        measure "$name" open --rate 20k --mix get=90,set=10
    done
done
# deep LABEL URL VERIFY_EVERY KEYS: how far one core goes.
deep() {
    for depth in 64 256 512 1024; do
        "${wrap[@]}" "$BENCH" run "$2" --keys "$4" --cores "$LOAD_CORE" -c 16 -p $depth -d "${SECONDS_EACH}s" \
            --warm-up 500ms --verify-every "$3" --quiet --json "$work/$1-$depth.json" || true
    done
}
deep deep "${urls[pinnace-native]}" 64 $keys
deep hot "${urls[pinnace-native]}" 64 10000
if have "$NULL_RESPONDER"; then
    (exec "${wrap[@]}" "$(absolute "$NULL_RESPONDER")" 127.0.0.1:$((PORT + 7)) "$SERVER_CORE" 32 >"$work/null.log" 2>&1) &
    pids+=($!)
    sleep 0.3
    deep null pinnace://127.0.0.1:$((PORT + 7)) 0 $keys
fi

# One line a generator: name, pipeline, answers, CPU seconds of the whole process.
TIMEFORMAT='%U %S'
generator_cost() {
    local url_port=$((PORT + 2)) count=$1 pipeline=$2 name
    for name in redis pinnace-native; do
        { time "${wrap[@]}" "$BENCH" run "${urls[$name]}" --keys $keys --cores "$LOAD_CORE" -c 50 -p "$pipeline" \
            -n "$count" --quiet 2>"$work/cost.log"; } 2>"$work/time"
        echo "$name-bench $pipeline $count $(cat "$work/time")"
    done
    if have "$MEMTIER"; then
        { time taskset -c "$LOAD_CORE" "${wrap[@]}" "$MEMTIER" -p $url_port -t 1 -c 50 --pipeline "$pipeline" --ratio 0:1 \
            --distinct-client-seed --key-pattern R:R --key-maximum $keys -n $((count / 50)) --hide-histogram \
            >"$work/memtier.log" 2>&1; } 2>"$work/time"
        echo "memtier_benchmark $pipeline $count $(cat "$work/time")"
    fi
    if have "$REDIS_BENCHMARK"; then
        { time taskset -c "$LOAD_CORE" "${wrap[@]}" "$REDIS_BENCHMARK" -p $url_port -c 50 -P "$pipeline" -n "$count" -r $keys \
            -t get -q >"$work/redis-benchmark.log" 2>&1; } 2>"$work/time"
        echo "redis-benchmark $pipeline $count $(cat "$work/time")"
    fi
}
# wrk speaks HTTP only, so it is measured against the responder, which answers both and keeps connections: the
# same keys, each request made beforehand, so that its Lua costs next to nothing.
wrk_cost() {
    local pipeline=$1 count=$2
    { time "${wrap[@]}" "$BENCH" run pinnace://127.0.0.1:$((PORT + 7)) --keys $keys --cores "$LOAD_CORE" -c 50 \
        -p "$pipeline" -n "$count" --verify-every 0 --quiet 2>"$work/cost.log"; } 2>"$work/time"
    echo "null-bench $pipeline $count $(cat "$work/time")"
    cat >"$work/wrk.lua" <<'LUA'
local made, at, depth = {}, 0, tonumber(os.getenv("DEPTH"))
function init()
    for batch = 1, 2000 do
        local requests = {}
        for place = 1, depth do
            requests[place] = wrk.format("GET", string.format("/key%08d", math.random(0, 999999)))
        end
        made[batch] = table.concat(requests)
    end
end
function request()
    at = at % #made + 1
    return made[at]
end
LUA
    { time DEPTH=$pipeline taskset -c "$LOAD_CORE" "${wrap[@]}" "$WRK" -t 1 -c 50 -d "$((SECONDS_EACH + 1))s" -s "$work/wrk.lua" \
        http://127.0.0.1:$((PORT + 7))/ >"$work/wrk.log" 2>&1; } 2>"$work/time"
    count=$(sed -n 's/^ *\([0-9]*\) requests in .*/\1/p' "$work/wrk.log")
    if [[ ${count:-0} -gt 1000 ]]; then echo "wrk $pipeline $count $(cat "$work/time")"; fi
}
for _ in $(seq "$ROUNDS"); do
    if [[ -n ${urls[redis]:-} ]]; then
        generator_cost 200000 1
        generator_cost 1000000 16
        generator_cost 2000000 64
    fi
    if have "$NULL_RESPONDER" && have "$WRK"; then
        wrk_cost 1 200000
        wrk_cost 16 1000000
        wrk_cost 64 2000000
    fi
done >"$work/generators.txt"
for name in "${names[@]}"; do echo "$name ${commands[$name]:-}"; done >"$work/commands.txt"

# The report.
python3 - "$work" "$output" "$0" <<'PYTHON'
import collections, glob, json, os, statistics, sys
work, output, script = sys.argv[1:4]
runs = collections.defaultdict(list)
for path in sorted(glob.glob(f"{work}/*.*.*.json")):
    label, name = os.path.basename(path).split(".")[:2]
    runs[label, name].append(json.load(open(path)))
names = [line.split()[0] for line in open(f"{work}/commands.txt")]
any_run = next(iter(runs.values()))[0]
environment = any_run["environment"]
out = []

def table(title, label, rows, note=""):
    columns = [name for name in names if (label, name) in runs]
    out.append(f"\n### {title}\n\n{note}| | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns) + "\n")
    for row, of in rows:
        cells = []
        for name in columns:
            values = [value for value in map(of, runs[label, name]) if value is not None]
            if not values:
                cells.append("-")
                continue
            middle = statistics.median(values)
            spread = (max(values) - min(values)) / 2 / middle * 100 if middle else 0
            cells.append(f"{middle:,.0f} ± {spread:.0f} %".replace(",", " "))
        out.append(f"| {row} | " + " | ".join(cells) + " |\n")

server = lambda run: run["server_side"] and run["server_side"]["cpu_ns_per_request"]
closed = [("server CPU, ns a request", server), ("answers a second", lambda run: run["achieved_rate"]),
          ("generator CPU, ns a request", lambda run: run["generator"]["cpu_ns_per_request"])]
us = lambda name: lambda run: run["total"][name] / 1000
latency = [(f"{label}, us", us(name)) for label, name in
           [("p50", "p50_ns"), ("p99", "p99_ns"), ("p99.9", "p999_ns"), ("p99.99", "p9999_ns"), ("max", "max_ns")]]
out.append("# This node and its rivals\n\n")
out.append(f"Written by `{script}` on {environment['cpu_count']} x {environment['cpu']}, kernel "
           f"{environment['kernel']}, TCP congestion control {environment['tcp_congestion_control']}, commit "
           f"{any_run['commit']}. Servers with one thread on one core, the generator on the other; a million keys of 11 "
           "bytes, values of 32; 50 connections with a key sequence each. Medians of "
           f"{len(next(iter(runs.values())))} interleaved rounds, ± half of their range. "
           f"Load average at the start: {environment['load_average']}."
           + (f" Servers and generators ran under `{os.environ['WRAP']}`." if os.environ.get("WRAP") else "") + "\n")
if os.environ.get("NOTE"):
    out.append(f"\n**{os.environ['NOTE']}**\n")
out.append("\nServers:\n\n")
for line in open(f"{work}/commands.txt"):
    name, _, command = line.strip().partition(" ")
    version = next((run["server"] for (_, who), found in runs.items() if who == name for run in found), "?")
    out.append(f"- {name}: {version}" + (f", `{command}`" if command else ", the same node over native frames") + "\n")
for kind in ("get", "set"):
    for pipeline in (1, 16, 64):
        table(f"{kind.upper()}, {pipeline} in flight a connection", f"{kind}-{pipeline}", closed)
table("Latency, open loop: 20 000 requests a second, 90 % GET", "open", latency,
      "From the intended start, Poisson arrivals.\n\n")
for kind, title, note in (
        ("deep", "Native GET, 16 connections, many in flight", ""),
        ("hot", "The same over 10 000 keys",
         "Their items stay in the CPU's cache, so that the node is fast enough to show how much one core generates.\n\n"),
        ("null", "The generator's own ceiling: native GET against a responder that only answers",
         "The example `null_responder` stores nothing and answers every GET with the same 32 bytes: what the generator can "
         "ask for and take in when the server does not limit it. It says nothing about a cache.\n\n")):
    deep = sorted(glob.glob(f"{work}/{kind}-*.json"), key=lambda path: int(path.rsplit("-", 1)[1][:-5]))
    if not deep:
        continue
    out.append(f"\n### {title}\n\n{note}| in flight | answers a second | server CPU, ns | "
               "generator CPU, ns | generator busy |\n|---|---|---|---|---|\n")
    for path in deep:
        run = json.load(open(path))
        generator = run["generator"]
        out.append(f"| {run['load']['depth']} | {run['achieved_rate']:,.0f} | {server(run) or 0:.0f} | "
                   f"{generator['cpu_ns_per_request']:.0f} | {generator['busy_share'] * 100:.0f} % |\n".replace(",", " "))
costs = collections.defaultdict(list)
if os.path.exists(f"{work}/generators.txt"):
    for line in open(f"{work}/generators.txt"):
        name, pipeline, count, user, system = line.split()
        costs[name, int(pipeline)].append((float(user) + float(system)) / int(count) * 1e9)
    depths = (1, 16, 64)
    whole = "User and system time of the whole process, its start included; interleaved, medians ± half of the range.\n\n"
    http = "wrk speaks HTTP, whose requests and answers are longer; pinnace-bench speaks native frames.\n\n"
    mine = {"redis-bench": "pinnace-bench", "pinnace-native-bench": "pinnace-bench, native frames, this node",
            "null-bench": "pinnace-bench"}
    for against, note, names in (
            ("against the same Redis", whole, ("memtier_benchmark", "redis-benchmark", "redis-bench", "pinnace-native-bench")),
            ("against `null_responder`", http, ("wrk", "null-bench"))):
        if not any((names[0], p) in costs for p in depths):
            continue
        out.append(f"\n### What a generator costs: CPU ns a GET, {against}\n\n{note}| | 1 | 16 | 64 |\n|---|---|---|---|\n")
        for name in names:
            cells = []
            for values in (costs.get((name, p)) for p in depths):
                middle = statistics.median(values) if values else 0
                cells.append(f"{middle:.0f} ± {(max(values) - min(values)) / 2 / middle * 100:.0f} %" if middle else "-")
            out.append(f"| {mine.get(name, name)} | " + " | ".join(cells) + " |\n")
warnings = collections.Counter(f"{name}: {warning}" for (_, name), found in runs.items()
                               for run in found for warning in run["warnings"])
if warnings:
    out.append("\n### Warnings of the runs\n\n")
    out.extend(f"- {warning} (x {times})\n" for warning, times in warnings.most_common(12))
settings = " ".join(f"{name}={os.environ[name]}" for name in ("ROUNDS", "SECONDS_EACH") if name in os.environ)
if os.environ.get("WRAP"):
    settings += f" WRAP='{os.environ['WRAP']}'"
out.append(f"\n### The command\n\n```\n{settings.strip()} {script} {os.path.relpath(output)}\n```\n".replace("\n ", "\n"))
os.makedirs(os.path.dirname(output) or ".", exist_ok=True)
open(output, "w").write("".join(out))
PYTHON
echo "wrote $output"
