"""Backups of running nodes, and nodes that begin with one."""

import json
import os
import shutil
import subprocess
import time

import pytest

from .conftest import DAMAGED, DATA_DIR, Writers, durable, kill, stop

CONFIG, BACKUP = 2, 22


def pinnace(node, *arguments, timeout=120):
    """Runs a command of the binary; exit code and what it said."""
    run = subprocess.run([node.binary, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, timeout=timeout)
    return run.returncode, run.stdout.decode("utf-8", "replace")


def backup(node, to, *extra):
    code, said = pinnace(node, "backup", "--to", to, "--from", "127.0.0.1:%d" % node.port, *extra)
    assert code == 0 and "complete" in said, (code, said)
    return said


def fill(node, keys=5000):
    with node.connect() as connection:
        for number in range(keys):
            extra = ("PX", 10_000_000 + number) if number % 3 == 0 else ()
            connection.send_command("SET", "key:%d" % number, "value:%d" % number, *extra)
        for _ in range(keys):
            assert connection.read() == b"OK"


def content(node, keys=5000):
    """Value and deadline of every key."""
    found = []
    with node.connect() as connection:
        for number in range(keys):
            connection.send_command("GET", "key:%d" % number)
            connection.send_command("PEXPIRETIME", "key:%d" % number)
        for _ in range(keys):
            found.append((connection.read(), connection.read()))
    return found


def restored(start, node, path, data_dir, cores):
    code, said = pinnace(node, "restore", "--from", path, "--data-dir", data_dir)
    assert code == 0, (code, said)
    other = durable(start, "sync", cores=cores)
    stop(other)
    other.data_dir = str(data_dir)
    other.launch()
    return other


@pytest.mark.parametrize("name, extra", [("whole", ()), ("whole.tar", ("--zstd", "3"))])
def test_a_backup_under_load_is_restored_into_any_number_of_cores(pinnace_only, start, tmp_path, name, extra):
    node = durable(start, "async", cores=2)
    fill(node)
    expected = content(node)
    writers = Writers(node, threads=2)
    time.sleep(0.3)
    before = dict(writers.acknowledged)
    path = tmp_path / name
    said = backup(node, path, *extra)
    time.sleep(0.2)
    writers.stop()
    code, checked = pinnace(node, "backup", "verify", path)
    assert code == 0 and "sound" in checked, (code, checked)
    items = [line for line in said.splitlines() if line.startswith("items")]
    assert items and items[0] in checked
    kill(node)
    for cores in (1, 2):
        other = restored(start, node, path, tmp_path / ("data%d" % cores), cores)
        assert content(other) == expected
        with other.connect() as connection:
            writers.check(connection, before)
            assert connection("SET", "key:0", "later") == b"OK"
        for _ in range(2):
            # What is written behind a restore is not taken for what the snapshot covers.
            kill(other)
            other.launch()
            with other.connect() as connection:
                assert connection("GET", "key:0") == b"later"
                assert connection("SET", "key:0", "later") == b"OK"
        assert content(other)[1:] == expected[1:]
        kill(other)


def test_what_is_not_whole_is_found_and_not_restored(pinnace_only, start, tmp_path):
    node = durable(start, "async", cores=2)
    fill(node, 3000)
    path, tar = tmp_path / "whole", tmp_path / "whole.tar"
    backup(node, path, "--zstd", "1")
    backup(node, tar)
    kill(node)
    files = sorted(os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
    assert len(files) == 3 and tar.exists() and not (tmp_path / "whole.unfinished").exists()

    def refused(bad, expected):
        data = tmp_path / "data"
        for arguments in (("backup", "verify", bad), ("restore", "--from", bad, "--data-dir", data)):
            code, said = pinnace(node, *arguments)
            assert code == DAMAGED and expected in said, (arguments, code, said)
        assert not (data / "node.toml").exists() and not (data / "snapshots").exists()

    def copied():
        bad = tmp_path / "bad"
        shutil.rmtree(bad, ignore_errors=True)
        shutil.copytree(path, bad)
        return bad

    for name in files:
        for place in (0, 0.5, 1):
            bad = copied()
            at = bad / os.path.relpath(name, path)
            flipped = bytearray(at.read_bytes())
            where = min(int(len(flipped) * place), len(flipped) - 3)
            flipped[where] ^= 0x10
            at.write_bytes(flipped)
            refused(bad, at.name)
        bad = copied()
        os.remove(bad / os.path.relpath(name, path))
        refused(bad, "manifest" if name.endswith(".json") else "missing")
    whole = tar.read_bytes()
    for part in (0, 600, len(whole) // 2, len(whole) - 2500):
        (tmp_path / "cut.tar").write_bytes(whole[:part])
        refused(tmp_path / "cut.tar", "cut")
    manifest = json.loads((path / "manifest.json").read_text())
    bad = copied()
    (bad / "manifest.json").write_text(json.dumps({**manifest, "shards": 1}))
    refused(bad, "crc32c")


def test_what_stands_in_the_way_is_named(pinnace_only, start, tmp_path):
    node = durable(start, "async", cores=1)
    fill(node, 100)
    path = tmp_path / "whole"
    backup(node, path)
    code, said = pinnace(node, "backup", "--to", path, "--from", "127.0.0.1:%d" % node.port)
    assert code == BACKUP and "is there already" in said, (code, said)
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_text("x")
    for directory in (node.data_dir, other):
        code, said = pinnace(node, "restore", "--from", path, "--data-dir", directory)
        assert code == DATA_DIR and "--force" in said, (code, said)
    code, said = pinnace(node, "restore", "--from", path, "--data-dir", node.data_dir, "--force")
    assert code == DATA_DIR and "in use" in said, (code, said)
    stop(node)
    for directory in (node.data_dir, os.path.relpath(node.data_dir)):
        code, said = pinnace(node, "restore", "--from", path, "--data-dir", directory, "--force")
        assert code == 0 and "before-restore-" in said, (code, said)
    node.launch()
    assert content(node, 100) == content(node, 100) and content(node, 1)[0][0] == b"value:0"
    code, said = pinnace(node, "backup", "--to", tmp_path / "none", "--from", "127.0.0.1:1")
    assert code == BACKUP and "127.0.0.1:1" in said, (code, said)
    code, said = pinnace(node, "backup", "--to", tmp_path / "none", "--from", "127.0.0.1:%d" % node.port,
                         "--data-dir", path)
    assert code == BACKUP and "--data-dir" in said and not (tmp_path / "none").exists(), (code, said)
    code, said = pinnace(node, "backup")
    assert code == CONFIG and "--to" in said, (code, said)
    code, said = pinnace(node, "backup", "--to", tmp_path / "none",
                         "--from", "redis://:secret@127.0.0.1:%d" % node.port)
    assert "secret" not in said and not (tmp_path / "none").exists(), said
