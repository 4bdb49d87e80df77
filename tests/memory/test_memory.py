"""The budget holds: RSS under churn, right data under eviction, refusal instead of eviction."""

import random
import threading
import time

import pytest

from harness.node import MIB, size_bytes, wait_until
from harness.resp import Closed, ReplyError

# What a node may take beside --memory with a handful of clients: the program and their requests and replies
# under way, and for each core its rings and receive buffers.
RSS_OVER_BUDGET, RSS_OVER_BUDGET_PER_CORE = 64 * MIB, 32 * MIB


def value_of(key, version, size):
    """Says whose value it is, of which write, and how long it must be."""
    head = b"%s|%d|%d|" % (key, version, size)
    return head + (head * (size // len(head) + 1))[: max(0, size - len(head))]


def is_whole(key, value):
    name, version, size, _ = value.split(b"|", 3)
    return name == key and value == value_of(key, int(version), int(size))


def draw_size(draw):
    """0 B to 1 MiB, every order of magnitude equally often."""
    return draw.choice([0, draw.randrange(64), draw.randrange(1 << 10), draw.randrange(16 << 10),
                        draw.randrange(128 << 10), draw.randrange(1 << 20)])


class Churn(threading.Thread):
    """Writes, reads, deletes and expires over its own keys; checks every value it gets back."""

    def __init__(self, node, worker, until, sizes, keys, depth):
        super().__init__(daemon=True)
        self.node, self.until, self.sizes, self.keys, self.depth = node, until, sizes, keys, depth
        self.draw, self.worker = random.Random(worker), worker
        self.latest, self.reads, self.hits, self.written, self.error = {}, 0, 0, 0, None

    def run(self):
        try:
            with self.node.connect(timeout=60) as connection:
                version = 0
                while time.monotonic() < self.until:
                    version += 1
                    self.step(connection, version)
        except BaseException as error:
            self.error = error

    def step(self, connection, version):
        commands, checks = [], []
        for _ in range(self.depth):
            key = b"churn:%d:%d" % (self.worker, self.draw.randrange(self.keys))
            way = self.draw.randrange(10)
            if way < 5:
                value = value_of(key, version, self.sizes(self.draw))
                self.written += len(value)
                self.latest[key] = version
                times = self.draw.choice([(), (), ("PX", self.draw.randrange(1, 3000)), ("EX", 1000)])
                commands.append(("SET", key, value, *times))
                checks.append(None)
            elif way < 9:
                commands.append(("GET", key))
                checks.append((key, self.latest.get(key)))
            else:
                commands.append(("DEL", key))
                self.latest.pop(key, None)
                checks.append(None)
        for answer, check in zip(connection.pipeline(commands), checks):
            assert not isinstance(answer, ReplyError), answer
            if check:
                self.reads += 1
                if answer is not None:
                    self.hits += 1
                    key, latest = check
                    assert is_whole(key, answer), "broken value of %r: %r" % (key, answer[:80])
                    assert int(answer.split(b"|", 2)[1]) == latest, "%r: an old value came back" % key


def churn(node, seconds, sizes=draw_size, workers=4, keys=3000, depth=16):
    until = time.monotonic() + seconds
    threads = [Churn(node, worker, until, sizes, keys, depth) for worker in range(workers)]
    for thread in threads:
        thread.start()
    peak = 0
    while any(thread.is_alive() for thread in threads):
        if node.pid:
            peak = max(peak, node.rss_bytes())
        threads[0].join(0.1)
    for thread in threads:
        thread.join(60)
        if thread.error:
            raise thread.error
    return threads, peak


def check_rss(node, peak):
    if node.is_pinnace:
        peak = max(peak, node.rss_peak_bytes())
        limit = size_bytes(node.options.memory) + RSS_OVER_BUDGET + node.options.cores * RSS_OVER_BUDGET_PER_CORE
        assert peak <= limit, "RSS %d MiB, budget and constant %d MiB" % (peak // MIB, limit // MIB)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("cores", [1, 2])
def test_churn_of_sizes_and_times(start, targets, cores):
    if cores == 2 and (targets.redis or targets.address):
        pytest.skip("this target has no cores to choose")
    node = start(cores=cores, memory="256mb")
    threads, peak = churn(node, 15)
    check_rss(node, peak)
    written, hits = sum(t.written for t in threads), sum(t.hits for t in threads)
    assert written > 512 * MIB, "only %d MiB written: the budget was never under pressure" % (written // MIB)
    assert hits > 100
    info = node.info("everything")
    assert int(info["evicted_keys"]) > 0 and int(info["expired_keys"]) > 0
    assert node.alive()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name,sizes,keys", [
    ("tiny", lambda draw: draw.randrange(40), 2_000_000),
    ("one-size", lambda draw: 1000, 300_000),
    ("large", lambda draw: draw.randrange(1 << 20, 8 << 20), 40),
], ids=lambda value: value if isinstance(value, str) else "")
def test_churn_of_one_kind(start, name, sizes, keys):
    node = start(memory="128mb" if name != "large" else "256mb")
    _, peak = churn(node, 6, sizes, keys=keys, depth=1 if name == "large" else 16)
    check_rss(node, peak)
    assert node.alive()


def test_filling_with_small_items_evicts_and_stays_within(start):
    """Millions of items: index growth and eviction under one budget."""
    node = start(memory="64mb")
    with node.connect(timeout=60) as connection:
        for first in range(0, 1_500_000, 5000):
            connection.send(b"".join(b"*3\r\n$3\r\nSET\r\n$11\r\nk%010d\r\n$32\r\n%032d\r\n" % (i, i) for i in range(first, first + 5000)))
            received = 0
            while received < 5 * 5000:
                received += len(connection.sock.recv(1 << 16))
        found = connection.pipeline([("GET", "k%010d" % i) for i in range(1_495_000, 1_500_000)])
        assert all(value in (None, b"%032d" % i) for i, value in zip(range(1_495_000, 1_500_000), found))
        assert sum(value is not None for value in found) > 4000, "what was written last is mostly there"
        assert connection("DBSIZE") > 300_000
    check_rss(node, 0)


def test_expired_items_give_their_memory_back(start):
    """Without a read: a budget full of expired items takes new ones and evicts nothing."""
    node = start(memory="64mb", policy="reject")
    value = "x" * 1000
    with node.connect(timeout=60) as connection:
        for first in range(0, 40_000, 1000):
            assert set(connection.pipeline([("SET", "old:%d" % i, value, "PX", 1500) for i in range(first, first + 1000)])) == {b"OK"}
        deadline = time.monotonic() + 30
        for first in range(0, 40_000, 500):
            while True:
                answers = connection.pipeline([("SET", "new:%d" % i, value) for i in range(first, first + 500)])
                if set(answers) == {b"OK"}:
                    break
                assert time.monotonic() < deadline, "expired items still hold the memory: %r" % answers[-1]
        assert int(node.info("stats")["evicted_keys"]) == 0
        assert connection("GET", "old:1") is None
        wait_until(lambda: connection("DBSIZE") == 40_000, 20, "expired items are no longer counted")


@pytest.mark.parametrize("cores", [1, 2])
def test_policy_reject(start, targets, cores):
    """Writes fail with OOM, everything that was acknowledged stays, reads and deletes go on."""
    if cores == 2 and (targets.redis or targets.address):
        pytest.skip("this target has no cores to choose")
    node = start(cores=cores, memory="64mb", policy="reject")
    acknowledged, refused = {}, []
    with node.connect() as connection:
        for number in range(200_000):
            key = b"keep:%d" % number
            value = value_of(key, number, number % 2000)
            answer = connection("SET", key, value)
            if answer == b"OK":
                acknowledged[key] = number
            else:
                refused.append(answer)
                if len(refused) >= 200:
                    break
        assert len(refused) >= 200, "never full"
        assert all(str(answer) == "OOM command not allowed when used memory > 'maxmemory'." for answer in refused)
        for first in range(0, len(acknowledged), 1000):
            keys = list(acknowledged)[first : first + 1000]
            for key, value in zip(keys, connection.pipeline([("GET", key) for key in keys])):
                assert value is not None and is_whole(key, value), key
        assert int(node.info("stats")["evicted_keys"]) == 0
        assert connection("PING") == b"PONG"
        some = list(acknowledged)[:5000]
        assert connection("DEL", *some) == len(some)
        answers = [connection("SET", "again:%d" % i, "x" * 500) for i in range(100)]
        assert answers.count(b"OK") >= 95, "deleting makes room again"
    check_rss(node, 0)


def test_value_larger_than_the_budget_is_refused(start, pinnace_only):
    node = start(memory="64mb")
    with node.connect(timeout=60) as connection:
        connection("SET", "small", "1")
        for size in (65, 100):
            answer = connection("SET", "huge", b"x" * (size * MIB))
            assert isinstance(answer, ReplyError), "%d MiB into 64 MiB: %r" % (size, answer)
            assert connection("GET", "huge") is None
        with node.connect() as other:
            # Over what incomplete requests may hold: cut off, perhaps before all is sent.
            try:
                assert isinstance(other("SET", "huge", b"x" * (300 * MIB)), ReplyError)
            except (Closed, ConnectionError):
                pass
        assert connection("PING") == b"PONG"
        for number in range(40):
            assert connection("SET", "part:%d" % (number % 4), b"y" * (10 * MIB)) == b"OK"
        assert connection("GET", "part:3") in (None, b"y" * (10 * MIB))
    assert node.alive()


@pytest.mark.long
@pytest.mark.timeout(2000)
@pytest.mark.parametrize("cores", [1, 2])
def test_long_churn(start, cores):
    node = start(cores=cores, memory="256mb")
    _, peak = churn(node, 600)
    check_rss(node, peak)
