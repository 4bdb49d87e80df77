"""redis-benchmark and memtier: they must run to their end without an error."""

import csv
import io
import os
import shutil
import subprocess

import pytest

from harness.tools import tool


TESTS = "ping_inline,ping_mbulk,set,get,incr,mset"


def benchmark(node, *arguments):
    done = subprocess.run(
        [tool("redis-benchmark"), "-h", node.host, "-p", str(node.port), *arguments],
        capture_output=True, text=True, timeout=100,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-2000:]
    assert "rror" not in output.replace("errors", ""), output[-2000:]
    return done.stdout


@pytest.mark.parametrize("options", [
    ["-n", "20000"],
    ["-n", "100000", "-P", "16"],
    ["-n", "50000", "-c", "50", "--threads", "2", "-P", "16"],
    ["-n", "50000", "-P", "64", "-r", "100000", "-d", "1000"],
    ["-n", "3000", "-c", "200"],
    ["-n", "2000", "-k", "0"],
], ids=lambda options: " ".join(options))
def test_redis_benchmark(clean, options):
    rows = list(csv.reader(io.StringIO(benchmark(clean, "-t", TESTS, "--csv", *options))))
    assert [row[0].split()[0] for row in rows if row[0] != "test"] == [
        "PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET"
    ]
    assert all(float(row[1]) > 0 for row in rows if row[0] != "test")


def test_redis_benchmark_resp3_and_own_command(clean):
    benchmark(clean, "-3", "-q", "-n", "20000", "-P", "8", "-t", "set,get")
    benchmark(clean, "-q", "-n", "20000", "-P", "8", "-r", "1000", "setex", "key:__rand_int__", "100", "value")
    with clean.connect() as connection:
        assert 900 <= connection("DBSIZE") <= 1003


@pytest.mark.parametrize("pipeline", ["1", "32"])
def test_memtier(clean, pipeline):
    program = os.environ.get("MEMTIER") or shutil.which("memtier_benchmark")
    if not program:
        pytest.skip("memtier_benchmark is not on PATH (optional)")
    done = subprocess.run(
        [program, "--server", clean.host, "--port", str(clean.port), "--protocol", "resp3",
         "--clients", "10", "--threads", "2", "--requests", "2000", "--pipeline", pipeline, "--ratio", "1:1",
         "--data-size-range", "1-4096", "--random-data", "--key-maximum", "5000", "--distinct-client-seed",
         "--hide-histogram"],
        capture_output=True, text=True, timeout=100,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0 and "Totals" in output, output[-1500:]
    assert "error" not in output.lower().replace("connection errors", ""), output[-1500:]
