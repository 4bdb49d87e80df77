"""Scenes with several connections and states, played to the node and to a real Redis.

A scene is a list of lines `NAME: COMMAND` (quoted like an inline command) and `NAME < N`, which
reads N replies of that connection (`~N`: in any order). Each reply is compared byte for byte.
"""

import ast
import os
import re
import shlex
import shutil

import pytest

from harness.node import Node
from harness.resp import Closed, encode
from harness.tools import missing


@pytest.fixture(scope="module")
def oracle():
    binary = os.environ.get("REDIS_ORACLE") or shutil.which("redis-server")
    if not binary or not shutil.which(binary):
        missing("redis-server", "replies are NOT compared with a real Redis")
    node = Node("redis", shutil.which(binary))
    yield node
    node.stop()


SCENES = {
    "subscribe": """
        a: SUBSCRIBE x y x
        a < 3
        a: PSUBSCRIBE x* *
        a < 2
        a: UNSUBSCRIBE x nosuch
        a < 2
        b: PUBLISH y hello
        b < 1
        a < 2
        b: PUBLISH x hello
        b < 1
        a < ~2
        a: UNSUBSCRIBE
        a < 1
        a: PUNSUBSCRIBE x*
        a: PUNSUBSCRIBE
        a < 2
        a: UNSUBSCRIBE
        a < 1
        a: PUNSUBSCRIBE
        a < 1
        b: PUBLISH y nobody
        b < 1
        a: GET back
        a < 1
    """,
    "subscriber mode": """
        a: SUBSCRIBE x
        a < 1
        a: PING
        a < 1
        a: PING text
        a < 1
        a: GET k
        a < 1
        a: SET k v
        a < 1
        a: MULTI
        a < 1
        a: NOSUCH
        a < 1
        a: PING a b
        a < 1
        a: PUBLISH x y
        a < 1
        a: RESET
        a < 1
        a: GET k
        a < 1
    """,
    "channels": """
        a: SUBSCRIBE one two
        a < 2
        b: SUBSCRIBE one
        b < 1
        c: PUBSUB NUMSUB one two three
        c < 1
        c: PUBSUB CHANNELS one
        c < 1
        c: PUBSUB CHANNELS t*
        c < 1
        b: PSUBSCRIBE p*
        b < 1
        a: PSUBSCRIBE p* q*
        a < 2
        c: PUBSUB NUMPAT
        c < 1
        c: PUBLISH one ""
        c < 1
        a < 1
        b < 1
        c: PUBSUB SHARDCHANNELS
        c < 1
        c: PUBSUB SHARDNUMSUB x
        c < 1
    """,
    "patterns": """
        a: PSUBSCRIBE h?llo h[ae]llo h*o h[^x]llo \\x5ch
        a < 5
        b: PUBLISH hello 1
        b < 1
        a < ~4
        b: PUBLISH hxllo 2
        b < 1
        a < ~2
        b: PUBLISH ho 3
        b < 1
        a < 1
    """,
    "transaction": """
        a: MULTI
        a: SET {t}k 1
        a: INCR {t}k
        a: INCR {t}k extra
        a: EXEC
        a < 5
        a: GET {t}k
        a < 1
        a: MULTI
        a: MULTI
        a: WATCH {t}k
        a: SET {t}k abc
        a: INCR {t}k
        a: GET {t}k
        a: PING
        a: ECHO x
        a: EXEC
        a < 9
        a: EXEC
        a: DISCARD
        a < 2
        a: MULTI
        a: NOSUCH x
        a: EXEC
        a < 3
        a: MULTI
        a: DISCARD
        a < 2
        a: MULTI
        a: EXEC
        a < 2
    """,
    "watch": """
        a: SET {w}k 1
        a: WATCH {w}k {w}l
        a < 2
        b: SET {w}l x
        b < 1
        a: MULTI
        a: GET {w}k
        a: EXEC
        a < 3
        a: WATCH {w}k
        a: SET {w}k 2
        a: MULTI
        a: GET {w}k
        a: EXEC
        a < 5
        a: WATCH {w}k
        a: UNWATCH
        a < 2
        b: SET {w}k 3
        b < 1
        a: MULTI
        a: GET {w}k
        a: EXEC
        a < 3
        a: WATCH {w}k
        a < 1
        b: EXPIRE {w}k 100
        b < 1
        a: MULTI
        a: EXEC
        a < 2
        a: WATCH {w}k
        a < 1
        b: SET {w}k 3
        b < 1
        a: DISCARD
        a: MULTI
        a: DISCARD
        a: MULTI
        a: EXEC
        a < 5
        a: WATCH {w}none
        a < 1
        b: DEL {w}none
        b < 1
        a: MULTI
        a: EXEC
        a < 2
        a: WATCH {w}k
        a < 1
        b: FLUSHALL
        b < 1
        a: MULTI
        a: EXEC
        a < 2
        a: WATCH {w}k
        a < 1
        b: FLUSHALL
        b < 1
        a: MULTI
        a: EXEC
        a < 2
        a: WATCH {w}k {w}m
        a < 1
        b: SET {w}m x PX 100000
        b < 1
        a: MULTI
        a: EXEC
        a < 2
    """,
    "in a transaction": """
        a: MULTI
        a: SUBSCRIBE x
        a: CLIENT GETNAME
        a: CONFIG GET nosuch
        a: DBSIZE
        a: FLUSHALL
        a: KEYS nosuch*
        a: EXEC
        a < 8
        a: UNSUBSCRIBE
        a < 1
    """,
    "client reply": """
        a: CLIENT REPLY OFF
        a: SET k v
        a: GET k
        a: NOSUCH
        a: CLIENT REPLY ON
        a < 1
        a: CLIENT REPLY SKIP
        a: GET k
        a: GET k
        a < 1
        a: CLIENT REPLY SKIP
        a: CLIENT REPLY ON
        a < 1
        a: PING
        a < 1
    """,
    "hello": """
        a: HELLO 3 SETNAME me
        a < H
        a: CLIENT GETNAME
        a < 1
        a: GET nosuch
        a < 1
        a: HELLO 2
        a < H
        a: GET nosuch
        a < 1
        a: HELLO
        a < H
        a: HELLO 1
        a: HELLO 5
        a: HELLO abc
        a: HELLO 3 SETNAME
        a: HELLO 3 SETNAME "a b"
        a: HELLO 3 NOSUCH
        a < 6
    """,
    "reset": """
        a: CLIENT SETNAME me
        a: MULTI
        a: SET k v
        a: RESET
        a < 4
        a: CLIENT GETNAME
        a: EXISTS k
        a: EXEC
        a < 3
    """,
    "names": """
        a: CLIENT SETNAME "with space"
        a: CLIENT SETNAME ""
        a: CLIENT GETNAME
        a: CLIENT SETNAME ok
        a: CLIENT GETNAME
        a: client getname
        a: CLIENT
        a: CLIENT NOSUCH
        a: CLIENT SETNAME
        a: CLIENT GETNAME extra
        a < 10
    """,
    "quit": """
        a: SET k v
        a: QUIT
        a < 2
        a closed
    """,
    "pause": """
        a: CLIENT PAUSE 100000 WRITE
        a < 1
        b: GET k
        b < 1
        a: CLIENT UNPAUSE
        a < 1
        b: SET k v
        b < 1
        a: CLIENT PAUSE 0
        a: CLIENT PAUSE abc
        a: CLIENT PAUSE 100 NOSUCH
        a < 3
    """,
    "slowlog": """
        a: CONFIG SET slowlog-log-slower-than -1
        a: SLOWLOG RESET
        a: SLOWLOG LEN
        a: SLOWLOG GET
        a: SLOWLOG GET 0
        a: SLOWLOG GET -1
        a: SLOWLOG GET abc
        a: CONFIG SET slowlog-log-slower-than 10000
        a < 8
    """,
    "command": """
        a: COMMAND GETKEYS GET k
        a: COMMAND GETKEYS MSET a 1 b 2
        a: COMMAND GETKEYS SET k v EX 5 NX
        a: COMMAND GETKEYS BITOP AND d a b
        a: COMMAND GETKEYS COPY a b
        a: COMMAND INFO nosuch
        a: COMMAND DOCS nosuch
        a: COMMAND LIST FILTERBY PATTERN nosuch*
        a: COMMAND LIST FILTERBY PATTERN getd*
        a < 9
    """,
    "expire at once": """
        a: SET k v
        a: EXPIRE k -1
        a: EXISTS k
        a: SET k v
        a: PEXPIREAT k 1
        a: GET k
        a: SET k v EX 100
        a: SET k w KEEPTTL
        a: SET k x GET
        a: TTL k
        a: EXPIRE k 0 NX
        a: GET k
        a: EXPIRE k 10 XX
        a: SET k v EXAT 1
        a: GET k
        a: GETEX k PXAT 1
        a: DBSIZE
        a < 17
    """,
}


def words(text):
    out = []
    for word in shlex.split(text, posix=False):
        out.append(ast.literal_eval("b" + word) if word.startswith('"') else
                   ast.literal_eval('b"%s"' % word) if "\\x" in word else word.encode())
    return out


def play(node, scene, version):
    """Every reply, in order, as (line, raw bytes)."""
    connections, seen = {}, []

    def connection(name):
        if name not in connections:
            connections[name] = node.connect()
            connections[name]("HELLO", version)
        return connections[name]

    with node.connect() as first:
        first("FLUSHALL")
    try:
        for line in filter(None, map(str.strip, scene.splitlines())):
            if line.endswith(" closed"):
                seen.append((line, connection(line.split()[0]).is_closed_by_peer()))
                continue
            name, kind, rest = re.match(r"(\w+)\s*([:<])\s*(.*)", line).groups()
            if kind == ":":
                connection(name).send(encode(*words(rest)))
                continue
            begin = len(seen)
            for _ in range(1 if rest == "H" else int(rest.lstrip("~"))):
                try:
                    raw = connection(name).read_raw()
                except (Closed, TimeoutError) as error:
                    raw = repr(error).encode()
                # Only the shape of a greeting: version, id and modules differ.
                seen.append((line, b"greeting" + raw[:4] if rest == "H" else raw))
            if rest.startswith("~"):
                seen[begin:] = sorted(seen[begin:])
    finally:
        for one in connections.values():
            one.close()
    return seen


@pytest.mark.parametrize("version", [2, 3], ids=["resp2", "resp3"])
@pytest.mark.parametrize("name", SCENES)
def test_scene(clean, oracle, name, version):
    ours, theirs = play(clean, SCENES[name], version), play(oracle, SCENES[name], version)
    for number, (mine, right) in enumerate(zip(ours, theirs)):
        assert mine == right, "reply %d: got %r, Redis %r" % (number, mine, right)
    assert len(ours) == len(theirs)


@pytest.mark.parametrize("version", [2, 3], ids=["resp2", "resp3"])
def test_command_info(clean, oracle, version):
    """Name, arity, flags and key positions of every command that both know."""
    with clean.connect() as mine, oracle.connect() as theirs:
        mine("HELLO", version), theirs("HELLO", version)
        ours = {entry[0]: entry for entry in mine("COMMAND")}
        right = {entry[0]: entry for entry in theirs("COMMAND")}
        wrong = []
        for name, entry in ours.items():
            if name not in right or name.decode() not in ISSUE_COMMANDS:
                continue
            for position, part in ((1, "arity"), (3, "first key"), (4, "last key"), (5, "step")):
                if entry[position] != right[name][position]:
                    wrong.append((name, part, entry[position], right[name][position]))
            if (b"write" in entry[2]) != (b"write" in right[name][2]):
                wrong.append((name, "write flag", entry[2], right[name][2]))
        assert not wrong, wrong
        assert mine("COMMAND", "COUNT") == len(ours)


ISSUE_COMMANDS = """get set setnx setex psetex getset getdel getex mget mset msetnx append strlen getrange substr setrange
incr decr incrby decrby incrbyfloat setbit getbit bitcount bitpos bitop bitfield del unlink exists type ttl pttl expire
pexpire expireat pexpireat expiretime pexpiretime persist rename renamenx copy randomkey keys scan touch dbsize flushdb
flushall object select ping echo hello reset quit time info command config client memory slowlog latency monitor
multi exec discard watch unwatch publish subscribe psubscribe unsubscribe punsubscribe pubsub""".split()


def test_every_promised_command_is_there(clean):
    with clean.connect() as connection:
        known = {name.decode() for name in connection("COMMAND", "LIST")}
        assert set(ISSUE_COMMANDS) <= known, sorted(set(ISSUE_COMMANDS) - known)
        docs = connection("COMMAND", "DOCS")
        assert {b"get", b"set", b"subscribe"} <= set(docs[::2] if isinstance(docs, list) else docs)


def test_shape_of_client_list_and_info(clean, oracle):
    def fields(node):
        with node.connect() as connection:
            line = connection("CLIENT", "LIST").decode().splitlines()[0]
            return {field.partition("=")[0] for field in line.split(" ")}

    needed = {"id", "addr", "laddr", "name", "age", "idle", "flags", "db", "sub", "psub", "multi", "cmd", "user", "resp",
              "lib-name", "lib-ver"}
    assert needed <= fields(clean), needed - fields(clean)
    ours = clean.info("everything")
    for field in DASHBOARD_FIELDS:
        assert field in ours, field


# What redis_exporter, the Redis dashboards of Grafana and RedisInsight read, as far as a cache has it.
DASHBOARD_FIELDS = """redis_version redis_mode os arch_bits process_id run_id tcp_port uptime_in_seconds uptime_in_days
connected_clients maxclients blocked_clients used_memory used_memory_human used_memory_rss used_memory_peak
used_memory_dataset total_system_memory maxmemory maxmemory_human maxmemory_policy mem_fragmentation_ratio
total_connections_received total_commands_processed instantaneous_ops_per_sec total_net_input_bytes
total_net_output_bytes instantaneous_input_kbps instantaneous_output_kbps rejected_connections expired_keys evicted_keys
keyspace_hits keyspace_misses pubsub_channels pubsub_patterns role connected_slaves master_repl_offset used_cpu_sys
used_cpu_user""".split()


def test_latency_histogram(clean, oracle):
    def shape(node):
        with node.connect() as connection:
            connection("CONFIG", "RESETSTAT")
            connection("SET", "k", "v"), connection("GET", "k"), connection("GET", "k")
            reply = connection("LATENCY", "HISTOGRAM", "get", "set")
            pairs = dict(zip(reply[::2], reply[1::2]))
            return {name: (entry[0], entry[1], entry[2]) for name, entry in pairs.items()}

    assert shape(clean) == shape(oracle) == {b"get": (b"calls", 2, b"histogram_usec"), b"set": (b"calls", 1, b"histogram_usec")}


def test_monitor_lines(clean, oracle):
    def lines(node):
        with node.connect() as watcher, node.connect() as worker:
            assert watcher("MONITOR") == b"OK"
            worker.pipeline([("SET", "m", b"a\"\\\n\x00\xff"), ("GET", "m"), ("NOSUCH",), ("MULTI",), ("INCR", "m"), ("EXEC",)])
            return [re.sub(rb"^\+[\d.]+ \[0 [\d.:]+\]", b"+", watcher.read_raw()) for _ in range(5)]

    assert lines(clean) == lines(oracle)
