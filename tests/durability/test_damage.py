"""Torn tails are cut, damage is refused; directories that are not this node's are not touched."""

import os
import subprocess

import pytest

from .conftest import DAMAGED, DATA_DIR, durable, kill, run_to_end, segments, stop

BLOCK = 4096


def written_blocks(path):
    """Blocks of a segment that hold something."""
    with open(path, "rb") as file:
        data = file.read()
    return [n for n in range(len(data) // BLOCK) if any(data[n * BLOCK:(n + 1) * BLOCK])]


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x40]))


def filled(start, count=200):
    node = durable(start, "sync", cores=1)
    with node.connect() as connection:
        for number in range(count):
            assert connection("SET", "key%d" % number, number) == b"OK"
    kill(node)
    return node, segments(node)[0]


def test_a_torn_tail_is_cut_and_said(pinnace_only, start):
    node, log = filled(start)
    last = written_blocks(log)[-1]
    flip(log, last * BLOCK + 70)
    node.launch()
    with node.connect() as connection:
        assert connection("DBSIZE") in (199, 200)
        connection("SET", "after", 1)
    assert "was not finished" in node.log_tail(400)
    kill(node)
    node.launch()
    with node.connect() as connection:
        assert connection("GET", "after") == b"1"


def test_damage_in_the_middle_is_refused_with_its_place(pinnace_only, start):
    node, log = filled(start)
    blocks = written_blocks(log)
    place = blocks[len(blocks) // 2] * BLOCK
    flip(log, place + 70)
    before = {path: open(path, "rb").read() for path in segments(node)}
    code, said = run_to_end(node)
    assert code == DAMAGED, said
    assert log in said and str(place) in said and "nothing was changed" in said, said
    assert {path: open(path, "rb").read() for path in segments(node)} == before
    flip(log, place + 70)
    node.launch()
    with node.connect() as connection:
        assert connection("DBSIZE") == 200


def test_a_directory_in_use_names_its_process(pinnace_only, start):
    node = durable(start, "sync", cores=1)
    options = node.options.extra
    other = start(cores=1, memory="128mb")
    other.data_dir = node.data_dir
    other.options.extra = options
    stop(other)
    code, said = run_to_end(other)
    assert code == DATA_DIR and "process %d" % node.pid in said, said


def test_a_log_of_another_node_and_a_newer_format_are_refused(pinnace_only, start):
    node, _ = filled(start, 5)
    identity = os.path.join(node.data_dir, "node.toml")
    text = open(identity).read()
    with open(identity, "w") as file:
        file.write("\n".join("node_id = 12345" if line.startswith("node_id") else line for line in text.splitlines()))
    code, said = run_to_end(node)
    assert code == DATA_DIR and "node 12345" in said and ".wal" in said, said
    with open(identity, "w") as file:
        file.write(text.replace("format = 1", "format = 99"))
    code, said = run_to_end(node)
    assert code == DATA_DIR and "newer" in said and "99" in said, said


def test_another_number_of_shards_is_refused(pinnace_only, start):
    node, _ = filled(start, 5)
    code, said = run_to_end(node, "--shards", "64")
    assert code == DATA_DIR and "--shards 256" in said, said


@pytest.mark.skipif(not os.path.exists("/usr/bin/chattr"), reason="no chattr here")
def test_a_directory_that_cannot_be_written_is_refused(pinnace_only, start):
    node, _ = filled(start, 5)
    if subprocess.run(["chattr", "+i", node.data_dir], capture_output=True).returncode:
        pytest.skip("this file system has no immutable directories")
    try:
        code, said = run_to_end(node)
    finally:
        subprocess.run(["chattr", "-i", node.data_dir], check=True)
    assert code == DATA_DIR and node.data_dir in said, said
