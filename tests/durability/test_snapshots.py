"""Snapshots shorten the log, and neither a kill at any moment nor another number of cores loses what was acknowledged."""

import os
import random
import threading
import time

import pytest

from harness.node import wait_until
from harness.resp import Closed, Connection

from .conftest import DAMAGED, Writers, durable, kill, run_to_end, segments, stop


def files(node, extension=".snap"):
    found = []
    for folder, _, names in os.walk(os.path.join(node.data_dir, "snapshots")):
        found += [os.path.join(folder, name) for name in names if name.endswith(extension)]
    return sorted(found)


def persistence(node):
    return node.info("persistence")


class Saver:
    """Sends BGSAVE again and again until it is stopped or the node is gone."""

    def __init__(self, node):
        self.stopping, self.begun = threading.Event(), 0
        self.thread = threading.Thread(target=self._run, args=(node,))
        self.thread.start()

    def _run(self, node):
        try:
            with Connection(node.port, timeout=30) as connection:
                while not self.stopping.wait(0.005):
                    self.begun += connection("BGSAVE") == b"Background saving started"
        except (OSError, Closed):
            pass  # The node was killed.

    def stop(self):
        self.stopping.set()
        self.thread.join()


def rounds(start, count, seed, cores):
    """Load, snapshots without a pause, a kill, another start; the most log files there were."""
    rng, most, begun = random.Random(seed), 0, 0
    node = durable(start, "sync", cores=rng.choice(cores))
    known = Writers.__new__(Writers)
    known.acknowledged, known.sent = {}, {}
    for number in range(count):
        writers = Writers(node, threads=4, keys=80, pipeline=rng.choice([4, 16]), value_bytes=rng.choice([200, 4000]))
        saver = Saver(node)
        time.sleep(rng.uniform(0.1, 0.8))
        kill(node)
        writers.stop()
        saver.stop()
        begun += saver.begun
        most = max(most, len(segments(node)))
        node.options.cores = rng.choice(cores)
        node.launch()
        with node.connect() as connection:
            writers.check(connection)
            assert connection("FLUSHALL") == b"OK"
        assert "damaged" not in node.log_tail(400), (seed, number)
    assert begun > count, "snapshots were made"
    with node.connect() as connection:
        assert connection("SAVE") == b"OK"
    return node, most


def test_kills_during_snapshots_lose_nothing(pinnace_only, start):
    node, _ = rounds(start, 8, 1, cores=[1])
    stop(node)


def test_kills_during_snapshots_with_another_number_of_cores_lose_nothing(pinnace_only, start):
    node, _ = rounds(start, 8, 2, cores=[1, 2])
    stop(node)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("cores", [[1], [2], [1, 2]])
def test_hundreds_of_kills_during_snapshots(pinnace_only, start, cores):
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rounds(start, 150, seed, cores)


@pytest.mark.parametrize("cores", [1, 2])
def test_the_log_is_shortened_and_the_disk_use_bounded(pinnace_only, start, cores):
    node = durable(start, "sync", "--snapshot-log-size", "16mb", cores=cores)
    writers = Writers(node, threads=4, keys=100, pipeline=16, value_bytes=8000)
    most, written = 0, 0
    deadline = time.monotonic() + 40
    while written < 200 << 20 and time.monotonic() < deadline:
        time.sleep(0.1)
        most = max(most, len(segments(node)))
        written = sum(writers.acknowledged.values()) and max(writers.acknowledged.values()) * 4 * 8000
    writers.stop()
    assert written > 100 << 20, written
    assert int(persistence(node)["rdb_saves"]) >= 2
    # Sixteen MiB of log trigger a pass, another of the kind are written meanwhile; eight files a core are made ahead.
    assert most * 4 < 120 + cores * 50, most
    stop(node)
    node.launch()
    with node.connect() as connection:
        writers.check(connection)
        assert connection("DBSIZE") == len(writers.acknowledged)


def test_what_happens_during_the_walk_is_in_the_snapshot(pinnace_only, start):
    """Deletes, deadlines, large values and FLUSHALL while a snapshot of many keys is made."""
    node = durable(start, "sync", cores=1)
    with node.connect() as connection, node.connect() as other:
        for number in range(0, 60_000, 500):
            for key in range(number, number + 500):
                connection.send_command("SET", "key%d" % key, "v" * 300)
            for _ in range(500):
                assert connection.read() == b"OK"
        assert connection("SET", "large", b"x" * 900_000) == b"OK"
        assert connection("BGSAVE") == b"Background saving started"
        for key in range(0, 20_000, 7):
            connection.send_command("DEL", "key%d" % key)
            connection.send_command("SET", "key%d" % (key + 1), "new", "EX", "1000")
            connection.send_command("PERSIST", "key%d" % (key + 2))
            connection.send_command("EXPIRE", "key%d" % (key + 3), "2000")
            connection.send_command("PEXPIRE", "key%d" % (key + 4), "1")
        for _ in range(0, 20_000, 7):
            assert [connection.read() for _ in range(5)] == [1, b"OK", 0, 1, 1]
        assert connection("SET", "large", b"y" * 900_001) == b"OK"
        wait_until(lambda: persistence(node)["rdb_bgsave_in_progress"] == "0", 30, "snapshot")
        kept = other("DBSIZE")
    kill(node)
    node.launch()
    with node.connect() as connection:
        for key in range(0, 20_000, 7):
            assert connection("GET", "key%d" % key) is None
            assert connection("GET", "key%d" % (key + 1)) == b"new"
            assert 900 < connection("TTL", "key%d" % (key + 1)) <= 1000
            assert connection("TTL", "key%d" % (key + 2)) == -1
            assert 1900 < connection("TTL", "key%d" % (key + 3)) <= 2000
            assert connection("GET", "key%d" % (key + 4)) is None
        assert connection("GET", "large") == b"y" * 900_001
        assert 60_001 - 2 * 2858 <= connection("DBSIZE") <= max(kept, 60_001)
        assert connection("BGSAVE") == b"Background saving started"
        assert connection("FLUSHALL") == b"OK" and connection("SET", "after", "1") == b"OK"
        wait_until(lambda: persistence(node)["rdb_bgsave_in_progress"] == "0", 30, "snapshot")
    kill(node)
    node.launch()
    with node.connect() as connection:
        assert connection("DBSIZE") == 1 and connection("GET", "after") == b"1"


def test_only_some_cores_have_a_snapshot_of_another_layout(pinnace_only, start, small_disk):
    """A core's old file holds shards that are another's now: it may not go before that core has a file of its own."""
    node = durable(start, "sync", cores=1)
    with node.connect() as connection:
        for round in range(3):
            for number in range(1000):
                connection.send_command("SET", "key%d" % number, b"%d" % round + b"x" * 7000)
            assert [connection.read() for _ in range(1000)] == [b"OK"] * 1000
        assert connection("SAVE") == b"OK"
        wait_until(lambda: len(segments(node)) < 15, 10, "the log is shortened")
    stop(node)
    place = small_disk(1)
    os.symlink(place, os.path.join(node.data_dir, "snapshots", "core-0001"))
    node.options.cores = 2
    node.launch()
    with node.connect() as connection:
        assert "could not be written" in str(connection("SAVE"))
        assert persistence(node)["rdb_last_bgsave_status"] == "err"
    assert len(files(node)) == 2, "core 0 has another, and its old one"
    kill(node)
    for cores in (2, 1, 2):
        node.options.cores = cores
        node.launch()
        with node.connect() as connection:
            assert connection("DBSIZE") == 1000
            for number in range(1000):
                assert connection("GET", "key%d" % number) == b"2" + b"x" * 7000
        kill(node)


def test_snapshots_of_all_cores_end_a_change_of_their_number(pinnace_only, start):
    """Only then are logs shortened again, and what cores wrote that are no more goes."""
    node = durable(start, "sync", "--snapshot-log-size", "0", cores=2)
    expected = {}

    def fill(round, cores):
        node.options.cores = cores
        if not node.alive():
            node.launch()
        with node.connect() as connection:
            assert connection("DBSIZE") == len(expected)
            for number in range(0, 3000, 1 + round):
                expected["key%d" % number] = b"%d:%d:" % (round, number) + b"x" * 3000
                connection.send_command("SET", "key%d" % number, expected["key%d" % number])
            assert {connection.read() for _ in range(0, 3000, 1 + round)} == {b"OK"}

    def check():
        with node.connect() as connection:
            for key, value in expected.items():
                assert connection("GET", key) == value

    def folders():
        return [sorted(os.listdir(os.path.join(node.data_dir, root))) for root in ("wal", "snapshots")]

    for round, cores in enumerate((2, 1, 2, 1, 2)):
        fill(round, cores)
        before = len(segments(node))
        with node.connect() as connection:
            assert connection("SAVE") == b"OK"
        names = ["core-%04d" % core for core in range(cores)]
        wait_until(lambda: folders() == [names, names], 20, "old directories are gone")
        identity = os.path.join(node.data_dir, "node.toml")
        wait_until(lambda: "mixed = false" in open(identity).read(), 20, "the change is over")
        if round == 1:
            wait_until(lambda: len(segments(node)) < before, 20, "the log is shortened")
        with node.connect() as connection:
            expected["key0"] = b"behind the snapshot"
            connection("SET", "key0", expected["key0"])
        kill(node)
        code, said = run_to_end(node, "--wal-replay")
        assert code == 0, said
    node.launch()
    check()


def test_save_answers_when_the_file_is_there(pinnace_only, start):
    node = durable(start, "sync", cores=2)
    with node.connect() as connection:
        before = connection("LASTSAVE")
        connection("SET", "key", "1")
        assert persistence(node)["rdb_changes_since_last_save"] == "1"
        time.sleep(1.1)
        assert connection("SAVE") == b"OK"
        assert len(files(node)) == 2 and not files(node, ".tmp")
        assert connection("LASTSAVE") > before
        shown = persistence(node)
        assert shown["rdb_changes_since_last_save"] == "0" and shown["rdb_saves"] == "1"
        assert shown["rdb_last_bgsave_status"] == "ok" and shown["rdb_last_bgsave_time_sec"] == "0"


def test_shutdown_save_makes_a_snapshot_first(pinnace_only, start):
    node = durable(start, "async", cores=2)
    with node.connect() as connection:
        connection("SET", "key", "1")
        connection.send_command("SHUTDOWN", "SAVE")
        assert node.process.wait(20) == 0
    assert len(files(node)) == 2
    node.launch()
    with node.connect() as connection:
        assert connection("GET", "key") == b"1"


def test_a_snapshot_by_time(pinnace_only, start):
    node = durable(start, "sync", "--snapshot-interval", "1s", cores=1)
    with node.connect() as connection:
        connection("SET", "key", "1")
        wait_until(lambda: int(persistence(node)["rdb_saves"]) >= 1, 10, "a snapshot")
        saves = persistence(node)["rdb_saves"]
        time.sleep(2.5)
        assert persistence(node)["rdb_saves"] == saves, "nothing was written since"


def test_a_full_disk_of_snapshots_leaves_the_one_before(pinnace_only, start, small_disk):
    node = durable(start, "sync", cores=1)
    stop(node)
    place = small_disk(16)
    snapshots = os.path.join(node.data_dir, "snapshots")
    for folder in os.listdir(snapshots):
        os.rmdir(os.path.join(snapshots, folder))
    os.rmdir(snapshots)
    os.symlink(place, snapshots)
    node.launch()
    with node.connect() as connection:
        connection("SET", "key", "1")
        assert connection("SAVE") == b"OK"
        before = os.listdir(os.path.join(place, "core-0000"))
        for number in range(300):
            assert connection("SET", "big%d" % number, b"x" * 100_000) == b"OK"
        reply = connection("SAVE")
        assert "could not be written" in str(reply), reply
        assert persistence(node)["rdb_last_bgsave_status"] == "err"
        assert os.listdir(os.path.join(place, "core-0000")) == before
        assert "the snapshot is given up, the one before stays" in node.log_tail(400)
        assert connection("SET", "key", "2") == b"OK"
    kill(node)
    node.launch()
    with node.connect() as connection:
        assert connection("GET", "key") == b"2" and connection("DBSIZE") == 301
        for number in range(300):
            connection("DEL", "big%d" % number)
        assert connection("SAVE") == b"OK"
        assert persistence(node)["rdb_last_bgsave_status"] == "ok"
    stop(node)


@pytest.mark.parametrize("harm", ["cut", "flip"])
def test_a_damaged_snapshot_is_refused_with_its_name(pinnace_only, start, harm):
    node = durable(start, "sync", cores=1)
    with node.connect() as connection:
        for number in range(1000):
            connection("SET", "key%d" % number, "x" * 100)
        assert connection("SAVE") == b"OK"
    kill(node)
    path, = files(node)
    with open(path, "r+b") as file:
        if harm == "cut":
            file.truncate(os.path.getsize(path) - 4096)
        else:
            file.seek(os.path.getsize(path) // 2)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))
    code, said = run_to_end(node)
    assert code == DAMAGED and path in said and "backup" in said, said
