"""Killed at random moments under load: in sync mode nothing acknowledged is lost, in async mode only what is younger than it says."""

import random
import threading
import time

import pytest

from .conftest import Writers, durable, kill, run_to_end, stop


def rounds(start, mode, count, seed):
    rng = random.Random(seed)
    node = durable(start, mode, cores=rng.choice([1, 2]))
    for number in range(count):
        writers = Writers(node, threads=4, keys=50, pipeline=rng.choice([1, 4, 16]), value_bytes=rng.choice([0, 2000]))
        time.sleep(rng.uniform(0.05, 0.4))
        if mode == "async":
            older = dict(writers.acknowledged)
            time.sleep(1)
        kill(node)
        writers.stop()
        node.launch()
        with node.connect() as connection:
            writers.check(connection, older if mode == "async" else None)
            assert connection("FLUSHALL") == b"OK"
        assert "damaged" not in node.log_tail(400), (seed, number)
    stop(node)


def test_nothing_acknowledged_is_lost_in_sync_mode(pinnace_only, start):
    rounds(start, "sync", 5, seed=1)


def test_only_the_last_moment_is_lost_in_async_mode(pinnace_only, start):
    rounds(start, "async", 2, seed=2)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mode,count", [("sync", 300), ("async", 50)])
def test_hundreds_of_kills(pinnace_only, start, mode, count):
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rounds(start, mode, count, seed)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_clean_stop_loses_nothing(pinnace_only, start, mode):
    node = durable(start, mode, cores=1)
    writers = Writers(node)
    time.sleep(0.3)
    writers.stop()
    stop(node)
    node.launch()
    with node.connect() as connection:
        writers.check(connection)
        assert connection("DBSIZE") == len(writers.acknowledged)


def test_what_was_there_comes_back_as_it_was(pinnace_only, start):
    node = durable(start, "sync", cores=1)
    with node.connect() as connection:
        for command in (["SET", "kept", "1"], ["SET", "gone", "1"], ["DEL", "gone"], ["SET", "late", "1", "EX", "1000"],
                        ["SET", "lost", "1", "PX", "1"], ["APPEND", "kept", "2"], ["INCRBY", "number", "41"],
                        ["INCR", "number"], ["SET", "large", "x" * (1 << 20)], ["SET", "forever", "1", "EX", "10"],
                        ["PERSIST", "forever"], ["MSET", "{t}a", "1", "{t}b", "2"]):
            connection(*command)
    kill(node)
    node.launch()
    with node.connect() as connection:
        assert connection("GET", "kept") == b"12"
        assert connection("GET", "gone") is None and connection("GET", "lost") is None
        assert 900 < connection("TTL", "late") <= 1000 and connection("TTL", "forever") == -1
        assert connection("GET", "number") == b"42" and connection("STRLEN", "large") == 1 << 20
        assert connection("MGET", "{t}a", "{t}b") == [b"1", b"2"]
        assert connection("FLUSHALL") == b"OK"
    kill(node)
    node.launch()
    with node.connect() as connection:
        assert connection("DBSIZE") == 0


def test_another_number_of_cores(pinnace_only, start):
    node = durable(start, "sync", cores=2)
    expected = {}
    for cores in (2, 1, 2, 1):
        node.options.cores = cores
        if not node.alive():
            node.launch()
        with node.connect() as connection:
            for key, value in expected.items():
                assert connection("GET", key) == value, (cores, key)
            for number in range(300):
                key, value = "key%d" % number, b"%d:%d" % (cores, len(expected))
                connection("SET", key, value)
                expected[key] = value
        kill(node)


def test_replay_reports_and_changes_nothing(pinnace_only, start):
    node = durable(start, "sync", cores=1)
    with node.connect() as connection:
        for number in range(1000):
            connection("SET", "key%d" % (number % 700), number)
    kill(node)
    for _ in range(2):
        code, said = run_to_end(node, "--wal-replay")
        assert code == 0 and "700 keys" in said and "nothing was changed" in said, said
    node.launch()
    with node.connect() as connection:
        assert connection("DBSIZE") == 700


def test_one_client_after_the_other_is_answered_promptly(pinnace_only, start):
    """A sync is a fraction of a millisecond: an idle core that slept through its end would take ten."""
    node = durable(start, "sync", cores=1)
    with node.connect() as connection:
        times = []
        for number in range(300):
            started = time.monotonic()
            connection("SET", "key", number)
            times.append(time.monotonic() - started)
    assert sorted(times)[len(times) // 4] < 0.008, sorted(times)[::30]
