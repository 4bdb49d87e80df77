"""`pinnace import` from dump files and live servers of a real Redis."""

import json
import os
import pty
import random
import socket
import subprocess
import threading
import time

import pytest

from harness.node import Node, wait_until
from harness.ports import free_ports
from harness.tools import tool

pytestmark = pytest.mark.usefixtures("pinnace_only")

OTHERS = {"list": 4, "set": 3, "sorted set": 2, "hash": 2, "stream": 1}


@pytest.fixture
def redis():
    """A Redis that compresses, keeps a checksum and makes its containers large early."""
    node = Node("redis", tool("redis-server"))
    with node.connect() as connection:
        for name in ("hash", "zset"):
            assert connection("CONFIG", "SET", name + "-max-listpack-entries", 4) == b"OK"
        assert connection("CONFIG", "SET", "list-max-listpack-size", 4) == b"OK"
        assert connection("CONFIG", "SET", "set-max-intset-entries", 4) == b"OK"
    yield node
    node.stop()


def strings(count, seed=7):
    """Values of every encoding, with and without deadlines (in ms from now)."""
    rng = random.Random(seed)
    for number in range(count):
        kind = number % 6
        value = [
            b"%d" % rng.randrange(-130, 130), b"%d" % rng.randrange(-40_000, 40_000),
            b"%d" % rng.randrange(-(1 << 40), 1 << 40), rng.randbytes(rng.randrange(0, 300)),
            b"abcabc" * rng.randrange(1, 400), rng.randbytes(20) * rng.randrange(1, 2000),
        ][kind]
        yield b"key:%d" % number, value, rng.choice([None, None, rng.randrange(600_000, 10 ** 10)])


def fill(redis, count=3000):
    """Returns what a node must have behind the import: value and whether there is a deadline."""
    wanted = {}
    with redis.connect() as connection:
        commands = []
        for key, value, ttl in strings(count):
            commands.append(["SET", key, value] + (["PX", ttl] if ttl else []))
            wanted[key] = (value, ttl)
        wanted[b"\x00binary\xff\r\n"] = (b"", None)
        commands.append(["SET", b"\x00binary\xff\r\n", b""])
        wanted[b"big"] = (random.Random(1).randbytes(3 << 20), None)
        commands.append(["SET", b"big", wanted[b"big"][0]])
        for small, word in ((3, "a"), (40, "b"), (40, "c" * 80)):
            members = [word + str(number) for number in range(small)]
            commands.append(["RPUSH", "list:" + members[0], *members])
        commands.append(["RPUSH", "list:large", "x" * 20_000])
        commands += [["SADD", "set:ints", 1, 2], ["SADD", "set:more", *range(100)], ["SADD", "set:text", "a", "b"]]
        scores = ["inf", "a", "-inf", "b", "1.5", "c", "3", "d", "1e300", "e"]
        commands += [["ZADD", "zset:small", "1", "a"], ["ZADD", "zset:large", *scores]]
        commands += [["HSET", "hash:small", "f", "v"], ["HSET", "hash:large", *map(str, range(40))]]
        commands += [["XADD", "stream", "1-%d" % n, "f", "v" * n] for n in range(1, 200)]
        commands += [["XGROUP", "CREATE", "stream", "group", "0"],
                     ["XREADGROUP", "GROUP", "group", "who", "COUNT", 20, "STREAMS", "stream", ">"]]
        for reply in connection.pipeline(commands):
            assert not isinstance(reply, Exception), reply
    return wanted


def run(binary, *arguments, code=0, **options):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PINNACE")}
    done = subprocess.run([binary, "import", *map(str, arguments)], capture_output=True, text=True, timeout=50,
                          stdin=subprocess.DEVNULL, env=environment, **options)
    assert done.returncode == code, "%s, not %s\n%s%s" % (done.returncode, code, done.stdout, done.stderr)
    return done


def check_same(node, wanted):
    with node.connect() as connection:
        assert connection("DBSIZE") == len(wanted)
        keys = list(wanted)
        for start in range(0, len(keys), 200):
            part = keys[start:start + 200]
            values = connection.pipeline([["GET", key] for key in part])
            ttls = connection.pipeline([["PTTL", key] for key in part])
            for key, value, ttl in zip(part, values, ttls):
                assert value == wanted[key][0], key
                expected = wanted[key][1]
                assert (ttl == -1) if expected is None else (expected - 60_000 < ttl <= expected), (key, ttl, expected)


def saved(redis):
    with redis.connect() as connection:
        assert connection("SAVE") == b"OK"
    return os.path.join(redis.data_dir, "dump.rdb")


@pytest.mark.parametrize("cores", [1, 2])
def test_dump(pinnace_only, start, redis, cores):
    wanted = fill(redis)
    with redis.connect() as connection:
        connection("SET", "dead", "1", "PX", 1)
        connection("CONFIG", "SET", "active-expire-effort", 1)
        assert connection("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)") == b"lib"
        connection("SELECT", 5)
        connection("MSET", "elsewhere:1", 1, "elsewhere:2", 2)
    dump = saved(redis)
    node = start(cores=cores)
    done = run(pinnace_only, dump, "--to", "127.0.0.1:%d" % node.port, code=21)
    check_same(node, wanted)
    for kind, count in {**OTHERS, "database 5 (--db 5)": 2, "library of functions": 1}.items():
        assert "%9d  %s: " % (count, kind) in done.stdout, done.stdout
    assert "zset:large" in done.stdout and "imported %d keys" % len(wanted) in done.stdout
    assert "were left out" in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    run(pinnace_only, dump, "--to", "127.0.0.1:%d" % node.port, "--skip-unsupported")
    with node.connect() as connection:
        connection("FLUSHALL")
    done = run(pinnace_only, dump, "--to", "127.0.0.1:%d" % node.port, "--db", 5, code=21)
    check_same(node, {b"elsewhere:1": (b"1", None), b"elsewhere:2": (b"2", None)})
    assert "keys of other databases than 5 were not asked for" in done.stdout


class Plain(Node):
    """A Redis that writes no checksums, which only its start can choose."""

    def command(self):
        return super().command() + ["--rdbchecksum", "no"]


def test_a_dump_without_a_checksum(pinnace_only, start, redis):
    plain = Plain("redis", redis.binary)
    try:
        wanted, dump, node = fill(plain, 200), saved(plain), start()
        done = run(pinnace_only, dump, "--to", "127.0.0.1:%d" % node.port, code=21)
    finally:
        plain.stop()
    assert "has no checksum" in done.stdout
    check_same(node, wanted)


@pytest.mark.parametrize("setting", [("rdbcompression", "no"), ("maxmemory-policy", "allkeys-lfu")])
def test_dumps_of_other_settings(pinnace_only, start, redis, setting):
    """Without compression; with how often (LFU) keys were used. How long ago (LRU) is there by default."""
    with redis.connect() as connection:
        assert connection("CONFIG", "SET", *setting) == b"OK"
    wanted, node = fill(redis, 300), start()
    run(pinnace_only, saved(redis), "--to", "127.0.0.1:%d" % node.port, code=21)
    check_same(node, wanted)


def test_what_is_there_already(pinnace_only, start, redis):
    node = start()
    with redis.connect() as connection:
        connection.pipeline([["SET", "a", "new"], ["SET", "b", "new", "PX", 100_000]])
    with node.connect() as connection:
        connection("SET", "a", "old")
        dump, to = saved(redis), "127.0.0.1:%d" % node.port
        done = run(pinnace_only, dump, "--to", to, "--keep")
        assert connection("MGET", "a", "b") == [b"old", b"new"]
        assert "        1  were there already" in done.stdout and "imported 1 keys" in done.stdout
        done = run(pinnace_only, dump, "--to", to, "--replace")
        assert connection("MGET", "a", "b") == [b"new", b"new"] and "imported 2 keys" in done.stdout


def test_expired_in_the_dump(pinnace_only, start, redis):
    node = start()
    with redis.connect() as connection:
        assert connection("SET", "soon", 1, "PX", 300) == b"OK"
        connection("SET", "later", 1)
        dump = saved(redis)
        wait_until(lambda: connection("EXISTS", "soon") == 0, 5, "the key expires")
    done = run(pinnace_only, dump, "--to", "127.0.0.1:%d" % node.port)
    assert "        1  had expired already" in done.stdout and "imported 1 keys" in done.stdout


def test_damaged_files_import_nothing(pinnace_only, start, redis, tmp_path):
    fill(redis, 300)
    with open(saved(redis), "rb") as file:
        whole = file.read()
    node = start()
    to = ["--to", "127.0.0.1:%d" % node.port]
    path = tmp_path / "dump.rdb"
    rng = random.Random(3)
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[rng.randrange(9, len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        assert "nothing was imported" in run(pinnace_only, path, *to, code=20).stderr
    for cut in [0, 5, 9, 100, len(whole) // 2, len(whole) - 9, len(whole) - 1]:
        path.write_bytes(whole[:cut])
        assert "nothing was imported" in run(pinnace_only, path, *to, code=20).stderr
    path.write_bytes(whole + b"*1\r\n$4\r\nPING\r\n")
    assert "follow the end" in run(pinnace_only, path, *to, code=20).stderr
    path.write_bytes(b"REDIS0099" + whole[9:])
    assert "version 99" in run(pinnace_only, path, *to, code=20).stderr
    assert "cannot be read" in run(pinnace_only, tmp_path / "absent", *to, code=20).stderr
    assert "directory" in run(pinnace_only, tmp_path, *to, code=20).stderr
    with node.connect() as connection:
        assert connection("DBSIZE") == 0
    path.write_bytes(whole)
    assert "--to" in run(pinnace_only, path, "--to", "127.0.0.1:%d" % free_ports(), code=20).stderr


def test_a_node_that_refuses_is_told(pinnace_only, start, redis):
    """Values that it does not take, keys that are too long, and no memory."""
    node = start(extra=("--max-value-size", "1kb", "--max-key-size", "10"))
    with redis.connect() as connection:
        connection.pipeline([["SET", "small", "x"], ["SET", "large", "x" * 5000], ["SET", "k" * 11, "x"]])
    done = run(pinnace_only, saved(redis), "--to", "127.0.0.1:%d" % node.port, code=21)
    assert "refused by the node" in done.stdout and "large (5000 bytes" in done.stdout, done.stdout
    assert "k" * 11 + " (ERR" in done.stdout and "imported 1 keys" in done.stdout, done.stdout
    with redis.connect() as connection:
        connection.pipeline([["SET", "fill:%d" % n, "x" * 500_000] for n in range(100)])
    full = start(memory="32mb", policy="reject")
    done = run(pinnace_only, saved(redis), "--to", "127.0.0.1:%d" % full.port, code=21)
    assert "OOM" in done.stdout and "the node refused" in done.stderr, done


def test_a_dump_from_a_pipe(pinnace_only, start, redis):
    wanted = fill(redis, 100)
    node = start()
    with open(saved(redis), "rb") as file:
        cat = subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE)
        done = subprocess.run([pinnace_only, "import", "/dev/stdin", "--to", "127.0.0.1:%d" % node.port],
                              stdin=cat.stdout, capture_output=True, text=True, timeout=50)
        cat.wait(10)
    assert done.returncode == 21, done
    check_same(node, wanted)


@pytest.mark.parametrize("cores", [1, 2])
def test_live(pinnace_only, start, redis, cores):
    wanted = fill(redis)
    with redis.connect() as connection:
        connection("SELECT", 5)
        connection("SET", "elsewhere", 1)
        connection("CONFIG", "SET", "requirepass", "p@ss w")
    node = start(cores=cores)
    to = ["--to", "127.0.0.1:%d" % node.port]
    done = run(pinnace_only, "redis://default:p%%40ss%%20w@127.0.0.1:%d" % redis.port, *to, code=21)
    check_same(node, wanted)
    for kind, count in OTHERS.items():
        assert "%9d  %s: " % (count, kind) in done.stdout, done.stdout
    with node.connect() as connection:
        connection("FLUSHALL")
    run(pinnace_only, "redis://:p%%40ss%%20w@127.0.0.1:%d/5" % redis.port, *to)
    check_same(node, {b"elsewhere": (b"1", None)})
    for url, part in [
        ("redis://127.0.0.1:%d" % redis.port, "NOAUTH"), ("redis://:secret@127.0.0.1:%d" % redis.port, "WRONGPASS"),
        ("redis://127.0.0.1:%d" % free_ports(), "cannot be reached"),
    ]:
        error = run(pinnace_only, url, *to, code=20).stderr
        assert part in error and "secret" not in error, error
    assert "TLS" in run(pinnace_only, "rediss://127.0.0.1", *to, code=2).stderr


class SlowWay:
    """Passes connections on to a server, and its replies a little late."""

    def __init__(self, port, delay):
        self.to, self.delay = port, delay
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.to))
            for one, other, delay in ((client, server, 0), (server, client, self.delay)):
                threading.Thread(target=self.pump, args=(one, other, delay), daemon=True).start()

    @staticmethod
    def pump(one, other, delay):
        try:
            while data := one.recv(1 << 20):
                time.sleep(delay)
                other.sendall(data)
        except OSError:
            pass
        other.close()


def test_live_resumes(pinnace_only, start, redis, tmp_path):
    """Killed again and again in the middle, a copy still comes to its end with every key."""
    count = 120_000
    with redis.connect() as connection:
        for start_key in range(0, count, 5000):
            commands = [["SET", "key:%d" % n, "value:%d" % n] for n in range(start_key, start_key + 5000)]
            assert set(connection.pipeline(commands)) == {b"OK"}
        connection("RPUSH", "a list", 1)
    node, way, state = start(), SlowWay(redis.port, 0.01), tmp_path / "state.json"
    command = [pinnace_only, "import", "redis://127.0.0.1:%d" % way.port, "--to", "127.0.0.1:%d" % node.port,
               "--resume", str(state)]
    cursors = ["0"]
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def moved():
            assert process.poll() is None, "the copy was over too soon"
            return state.exists() and json.loads(state.read_text())["cursor"] != cursors[-1]

        try:
            wait_until(moved, 40, "the copy moves")
        finally:
            process.kill()
            process.wait(10)
        cursors.append(json.loads(state.read_text())["cursor"])
    assert len(set(cursors)) == 4, cursors
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    way.listener.close()
    assert done.returncode == 21 and "        1  list: a list" in done.stdout, done
    assert not state.exists()
    with node.connect() as connection:
        assert connection("DBSIZE") == count
        for n in range(0, count, 997):
            assert connection("GET", "key:%d" % n) == b"value:%d" % n


def test_a_state_of_something_else_is_refused(pinnace_only, start, redis, tmp_path):
    node = start()
    source, to = "redis://127.0.0.1:%d" % redis.port, ["--to", "127.0.0.1:%d" % node.port]
    state = tmp_path / "state.json"
    good = {"format": 1, "source": "127.0.0.1:%d" % redis.port, "target": "127.0.0.1:%d" % node.port, "run_id": "x",
            "cursor": "17", "seen": 0,
            "report": {"imported": 0, "imported_with_deadline": 0, "kept": 0, "expired": 0, "vanished": 0,
                       "refused": {"count": 0, "examples": []}, "left_out": {}}}
    for text, part in [
        ("{", "not the state"), (json.dumps({**good, "format": 9}), "format 9"),
        (json.dumps({**good, "source": "other:1"}), "other:1"), (json.dumps(good), "started again"),
    ]:
        state.write_text(text)
        assert part in run(pinnace_only, source, *to, "--resume", state, code=20).stderr
        assert state.read_text() == text
    assert "cannot be" in run(pinnace_only, source, *to, "--resume", tmp_path / "no" / "state", code=20).stderr
    assert "live servers" in run(pinnace_only, "dump.rdb", "--resume", state, code=2).stderr
    assert "--db" in run(pinnace_only, source, "--db", 1, code=2).stderr


def test_live_under_writes(pinnace_only, start, redis):
    """Keys that are there all the time are copied, whatever else happens meanwhile."""
    with redis.connect() as connection:
        assert set(connection.pipeline([["SET", "stays:%d" % n, n] for n in range(20_000)])) == {b"OK"}
    stop = threading.Event()

    def churn():
        rng = random.Random(5)
        with redis.connect() as connection:
            while not stop.is_set():
                connection.pipeline([["SET", "moves:%d" % rng.randrange(50_000), "x", "PX", rng.choice([1, 5, 100_000])]
                                     for _ in range(100)] + [["DEL", "moves:%d" % rng.randrange(50_000)]])

    thread = threading.Thread(target=churn)
    thread.start()
    node = start()
    try:
        run(pinnace_only, "redis://127.0.0.1:%d" % redis.port, "--to", "127.0.0.1:%d" % node.port)
    finally:
        stop.set()
        thread.join()
    with node.connect() as connection:
        assert connection.pipeline([["GET", "stays:%d" % n] for n in range(20_000)]) == [b"%d" % n for n in range(20_000)]


def test_progress_on_a_terminal(pinnace_only, start, redis):
    fill(redis, 1000)
    node = start()
    lead, follow = pty.openpty()
    process = subprocess.Popen([pinnace_only, "import", saved(redis), "--to", "127.0.0.1:%d" % node.port],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=follow,
                               env={**os.environ, "TERM": "xterm"})
    os.close(follow)
    shown = b""
    while True:
        try:
            part = os.read(lead, 65536)
        except OSError:
            break
        shown += part
        if not part:
            break
    os.close(lead)
    assert b"imported" in process.communicate(timeout=20)[0]
    assert b"importing" in shown and b"%" in shown, shown
