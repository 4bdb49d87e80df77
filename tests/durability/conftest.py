"""Nodes with a log, their data where a test wants it, and writers that remember what was acknowledged."""

import os
import random
import subprocess
import threading

import pytest

from harness.node import stop_process, wait_until
from harness.resp import Closed, Connection

DATA_DIR, DISK, DAMAGED = 15, 18, 19


class Writers:
    """Threads that set counters, each on keys of its own, and remember the last acknowledged value of each."""

    def __init__(self, node, threads=4, keys=50, pipeline=4, value_bytes=0):
        self.acknowledged, self.sent, self.errors = {}, {}, []
        self.stopping = threading.Event()
        self.node, self.keys, self.pipeline, self.value_bytes = node, keys, pipeline, value_bytes
        self.threads = [threading.Thread(target=self._write, args=(n,)) for n in range(threads)]
        for thread in self.threads:
            thread.start()

    def _write(self, number):
        rng, counter = random.Random(number), 0
        try:
            with Connection(self.node.port, timeout=30) as connection:
                while not self.stopping.is_set():
                    batch = []
                    for _ in range(self.pipeline):
                        counter += 1
                        key = b"w%d:%d" % (number, rng.randrange(self.keys))
                        batch.append((key, counter))
                        self.sent[key] = counter
                    for key, value in batch:
                        connection.send_command("SET", key, b"%d:" % value + b"x" * self.value_bytes)
                    for key, value in batch:
                        reply = connection.read()
                        if reply != b"OK":
                            raise AssertionError(reply)
                        self.acknowledged[key] = value
        except (OSError, Closed):
            pass  # The node was killed.
        except Exception as error:  # noqa: BLE001: shown by the test
            self.errors.append(error)

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        assert not self.errors, self.errors

    def check(self, connection, acknowledged=None):
        """Every acknowledged value is there, or a later one that was sent."""
        lost = []
        for key, least in (acknowledged or self.acknowledged).items():
            reply = connection("GET", key)
            value = int(reply.split(b":")[0]) if reply else 0
            if not least <= value <= self.sent[key]:
                lost.append((key, least, value, self.sent[key]))
        assert not lost, "%d of %d lost, first %s" % (len(lost), len(self.acknowledged), lost[:3])


def kill(node):
    node.process.kill()
    node.process.wait()


def durable(start, mode, *extra, **options):
    options.setdefault("memory", "128mb")
    return start(extra=("--durability", mode, "--wal-segment-size", "4mb") + extra, **options)


def run_to_end(node, *extra, timeout=60):
    """Runs the node's command in the foreground; exit code and what it said."""
    run = subprocess.run(node.command() + list(extra), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, timeout=timeout)
    return run.returncode, run.stdout.decode("utf-8", "replace")


def segments(node):
    """Log files, by core and number."""
    found = []
    for folder, _, names in os.walk(os.path.join(node.data_dir, "wal")):
        found += [os.path.join(folder, name) for name in names if name.endswith(".wal")]
    return sorted(found)


def stop(node):
    code = stop_process(node.process)
    assert code == 0, (code, node.log_tail())


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of so many MiB; needs root."""
    mounted = []

    def mount(mib, kind="tmpfs"):
        place = tmp_path / ("disk%d" % len(mounted))
        place.mkdir()
        if kind == "tmpfs":
            command = ["mount", "-t", "tmpfs", "-o", "size=%dm" % mib, "tmpfs", str(place)]
        else:
            image = tmp_path / ("image%d" % len(mounted))
            with open(image, "wb") as file:
                file.truncate(mib << 20)
            if subprocess.run(["mkfs.ext4", "-q", str(image)], capture_output=True).returncode:
                pytest.skip("no mkfs.ext4 here")
            command = ["mount", "-o", "loop", str(image), str(place)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip("cannot mount here: " + done.stderr.strip())
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        wait_until(lambda: subprocess.run(["umount", str(place)], capture_output=True).returncode == 0, 20,
                   "unmount " + str(place))
