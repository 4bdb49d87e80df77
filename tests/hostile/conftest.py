"""What every hostile test ends with: the node lives, serves, and has given everything back."""

import pytest

from harness.node import MIB, size_bytes, wait_until
from harness.probe import Probe

# Over --memory: program, rings and receive buffers, connections, requests that are not complete and replies
# that are not read, all of them bounded. Each core's allocator keeps some of what was given back.
RSS_OVER_BUDGET = 96 * MIB
RSS_PER_CORE = 64 * MIB


class Guard:
    """Baselines before a test, checks behind it."""

    def __init__(self, node):
        self.node = node
        wait_until(lambda: node.connected_clients() == 0, 20, "a quiet start")
        self.fds = node.fd_count() if node.pid else 0
        over_budget = RSS_OVER_BUDGET + node.options.cores * RSS_PER_CORE
        self.rss_limit = size_bytes(node.options.memory) + over_budget
        if node.pid:
            node.reset_rss_peak()

    def probe(self):
        return Probe(self.node)

    def check(self):
        node = self.node
        assert node.alive(), "the node died with %s:\n%s" % (node.process.returncode, node.log_tail())
        with node.connect() as connection:
            assert connection("SET", "alive", "1") == b"OK"
            assert connection("GET", "alive") == b"1"
        wait_until(lambda: node.connected_clients() == 0, 20, "connections given back: %d left" % node.connected_clients())
        if node.pid:
            # One descriptor may still belong to the connection that asked.
            wait_until(lambda: node.fd_count() <= self.fds + 1, 20,
                       "descriptors given back: %d, at first %d" % (node.fd_count(), self.fds))
        if node.is_pinnace:
            peak = node.rss_peak_bytes()
            assert peak <= self.rss_limit, "RSS peak %d MiB, limit %d MiB" % (peak // MIB, self.rss_limit // MIB)


@pytest.fixture
def guard(clean):
    guard = Guard(clean)
    yield guard
    clean.close_all()
    guard.check()


@pytest.fixture
def stricter_than_redis(targets):
    """Redis bounds this less, or not by default."""
    if targets.redis or targets.address:
        pytest.skip("Pinnace promises more here than Redis")


@pytest.fixture
def guard_of():
    """A guard for a node that the test started itself; to be checked by the test."""
    return Guard
