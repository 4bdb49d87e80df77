"""The node against a real Redis: the same random commands, the same replies.

A few thousand commands on fixed seeds and on one fresh seed, which is printed. `--long --minutes N`
goes on with fresh seeds for N minutes; `--seed S` repeats one.
"""

import os
import random
import shutil
import time

import pytest

from differential.compare import compare
from harness.node import Node
from harness.tools import missing

FIXED_SEEDS = [1, 2, 3]
COMMANDS = 8000
FRESH = random.SystemRandom().randrange(1 << 32)


@pytest.fixture(scope="module")
def oracle():
    """$REDIS_ORACLE or the redis-server on PATH."""
    binary = os.environ.get("REDIS_ORACLE") or shutil.which("redis-server")
    if not binary or not shutil.which(binary):
        missing("redis-server", "replies are NOT compared with a real Redis")
    node = Node("redis", shutil.which(binary))
    yield node
    node.stop()


def seeds(config):
    return [config.getoption("--seed")] if config.getoption("--seed") is not None else [*FIXED_SEEDS, FRESH]


def pytest_generate_tests(metafunc):
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", seeds(metafunc.config), ids=lambda seed: "seed%d" % seed)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("spread", [False, True], ids=["one-slot", "many-slots"])
@pytest.mark.parametrize("version", [2, 3], ids=["resp2", "resp3"])
def test_same_replies_as_redis(node, oracle, seed, version, spread):
    reports = compare(node, oracle, seed, COMMANDS, version, spread)
    assert not reports, "\n" + reports[0] + "\nrepeat with: --seed %d" % seed


@pytest.mark.long
@pytest.mark.timeout(14000)
def test_same_replies_as_redis_for_long(node, oracle, request):
    until = time.monotonic() + 60 * (request.config.getoption("--minutes") or 10) / 2
    reports = []
    while time.monotonic() < until and len(reports) < 20:
        fresh = random.SystemRandom().randrange(1 << 32)
        for version, spread in ((2, False), (3, False), (2, True), (3, True)):
            reports += compare(node, oracle, fresh, 20_000, version, spread, keep_going=True)
    assert not reports, "\n\n" + "\n\n".join(reports)
