"""Disks that are full, and disks that fail."""

import fcntl
import os
import struct
import time

import pytest

from harness.node import wait_until

from .conftest import DATA_DIR, DISK, Writers, durable, kill, run_to_end, segments, stop

# EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32): every later write and sync fails with EIO.
SHUTDOWN = 0x8004587D
NO_FLUSH = 2


def moved(start, place, *extra):
    """A node whose data is at `place`."""
    node = durable(start, "sync", *extra, cores=1)
    stop(node)
    node.data_dir = str(place)
    node.launch()
    return node


def test_a_relative_data_directory_is_one_below_the_working_directory(pinnace_only, start, tmp_path):
    node = moved(start, os.path.relpath(tmp_path / "data"))
    with node.connect() as connection:
        assert connection("SET", "key", "value") == b"OK"
        assert connection("SAVE") == b"OK"
        told = connection("CONFIG", "GET", "dir")[1].decode()
        assert os.path.isabs(told) and os.path.samefile(told, tmp_path / "data"), told
    kill(node)
    assert sorted(os.listdir(tmp_path / "data")) == ["LOCK", "node.toml", "snapshots", "wal"]
    assert "LOCK" not in os.listdir(tmp_path / "data" / "wal")
    node.launch()
    with node.connect() as connection:
        assert connection("GET", "key") == b"value"


def test_a_full_disk_refuses_writes_and_serves_reads_until_there_is_room(pinnace_only, start, small_disk):
    place = small_disk(20)
    filler = os.path.join(place, "filler")
    node = moved(start, place)
    with open(filler, "wb") as file:
        try:
            while file.write(b"x" * 65536):
                file.flush()
        except OSError:
            pass
    with node.connect() as connection:
        assert connection("SET", "first", "1") == b"OK"
        refused = None
        for number in range(20_000):
            reply = connection("SET", "key", b"x" * 2000 + b"%d" % number)
            if reply != b"OK":
                refused = str(reply)
                break
        assert refused and "MISCONF" in refused and "no space" in refused, refused
        assert connection("GET", "first") == b"1"
        os.remove(filler)

        def accepted():
            return connection("SET", "later", "1") == b"OK"

        wait_until(accepted, 20, "writes are taken again", every=0.2)
        assert connection("GET", "key").startswith(b"xxx")
    node.process.kill()
    node.process.wait()
    node.launch()
    with node.connect() as connection:
        assert connection("MGET", "first", "later") == [b"1", b"1"]
    node.process.kill()
    node.process.wait()


def test_a_disk_that_is_full_at_the_start_is_refused(pinnace_only, start, small_disk):
    place = small_disk(2)
    node = durable(start, "sync", cores=1)
    stop(node)
    node.data_dir = str(place)
    code, said = run_to_end(node)
    assert code == DATA_DIR and str(place) in said and "make room" in said, (code, said)


def test_a_disk_that_fails_ends_the_node_and_nothing_more_is_acknowledged(pinnace_only, start, small_disk):
    place = small_disk(64, "ext4")
    node = moved(start, place)
    writers = Writers(node, threads=4)
    time.sleep(0.3)
    descriptor = os.open(place, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NO_FLUSH))
    finally:
        os.close(descriptor)
    code = node.process.wait(20)
    writers.stop()
    assert code == DISK, (code, node.log_tail())
    said = node.log_tail(400)
    assert str(place) in said and "stops at once" in said, said
    assert writers.acknowledged


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_clients_that_outrun_the_making_of_log_files_wait(pinnace_only, start, mode):
    node = start(extra=("--durability", mode, "--wal-segment-size", "1mb"), cores=2, memory="256mb")
    writers = Writers(node, threads=6, pipeline=16, value_bytes=30_000)
    with node.connect() as connection:
        # Values of which a log file holds only a few, made without sending them.
        assert connection("SETRANGE", "large", 700_000, "x") == 700_001
        for number in range(40):
            assert connection("COPY", "large", "copy:%d" % number, "REPLACE") == 1
        assert connection("SET", "last", "1") == b"OK"
    time.sleep(1)
    # Any reply but OK is an error of the writers.
    writers.stop()
    assert len(segments(node)) > 40, segments(node)
    with node.connect() as connection:
        writers.check(connection)
    kill(node)
    node.launch()
    with node.connect() as connection:
        if mode == "sync":
            writers.check(connection)
            assert connection("STRLEN", "copy:39") == 700_001
    kill(node)


def test_a_value_that_no_log_file_holds_is_told_at_the_start(pinnace_only, start):
    node = durable(start, "sync", cores=1)
    with node.connect() as connection:
        limit = int(connection("CONFIG", "GET", "proto-max-bulk-len")[1])
        assert 3_900_000 < limit < 4 << 20
        assert connection("SET", "key", b"x" * limit) == b"OK"
    stop(node)
    assert "values can have %d bytes" % limit in node.log_tail(400)
    code, said = run_to_end(node, "--max-value-size", "5mb")
    assert code == 2 and "--wal-segment-size" in said, (code, said)
