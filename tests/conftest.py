"""Fixtures, the target of a run, and a hard time limit on every test."""

import os
import shutil
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from harness.node import Node, last_words  # noqa: E402
from harness.tools import missing  # noqa: E402

DEFAULT_SECONDS = 60
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def pytest_addoption(parser):
    parser.addoption("--redis", metavar="BINARY", help="run against this Redis instead of Pinnace")
    parser.addoption("--target", metavar="HOST:PORT", help="run against a server that runs already")
    parser.addoption("--long", action="store_true", help="also the tests that take long")
    parser.addoption("--seed", type=int, help="seed of the random tests (default: fixed ones and a fresh one)")
    parser.addoption("--minutes", type=float, default=0, help="length of the long differential run")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--long"):
        skip = pytest.mark.skip(reason="needs --long")
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(skip)


class TestTimeout(BaseException):
    """Not an Exception: no test may catch it by accident."""


def _on_alarm(signum, frame):
    raise TestTimeout("test took too long")


def _limit_of(item):
    marker = item.get_closest_marker("timeout")
    return marker.args[0] if marker else DEFAULT_SECONDS


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    # Fixtures start nodes, so they get time on top.
    signal.signal(signal.SIGALRM, _on_alarm)
    signal.alarm(int(_limit_of(item)) + 60)
    yield
    signal.alarm(0)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    signal.alarm(int(_limit_of(item)))
    yield
    signal.alarm(60)


def pytest_sessionfinish(session, exitstatus):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    path = os.environ.get("PINNACE_TEST_COUNTS")
    if reporter and path:
        counts = [len(reporter.stats.get(k, ())) for k in ("passed", "failed", "error", "skipped")]
        with open(path, "w") as out:
            out.write("%d %d %d\n" % (counts[0], counts[1] + counts[2], counts[3]))


def pytest_terminal_summary(terminalreporter):
    for words in last_words:
        terminalreporter.section("a node died")
        terminalreporter.write_line(words)


class Targets:
    """Starts nodes of the kind this run is about."""

    def __init__(self, config):
        self.redis, self.address = config.getoption("--redis"), config.getoption("--target")
        self.binary = os.environ.get("PINNACE") or os.path.join(ROOT, "target", "release", "pinnace")
        if not self.redis and not self.address and not os.access(self.binary, os.X_OK):
            raise pytest.UsageError("no binary at %s: set PINNACE or build it" % self.binary)

    def start(self, **options):
        if self.address:
            return Node("external", address=self.address)
        if self.redis:
            return Node("redis", shutil.which(self.redis) or self.redis, **options)
        if options.get("cores", 1) > len(os.sched_getaffinity(0)):
            missing("a second core", "this machine has only one")
        return Node("pinnace", self.binary, **options)


@pytest.fixture(scope="session")
def targets(request):
    return Targets(request.config)


@pytest.fixture
def start(targets):
    """Starts nodes for one test and stops them behind it."""
    nodes = []

    def start_one(**options):
        nodes.append(targets.start(**options))
        return nodes[-1]

    yield start_one
    for node in nodes:
        node.stop()


@pytest.fixture
def pinnace_only(targets):
    if targets.redis or targets.address:
        pytest.skip("about the pinnace binary itself")
    return targets.binary


def pytest_generate_tests(metafunc):
    """Every test with a `node` runs against one core and against two; a Redis has no cores to choose."""
    if "node" in metafunc.fixturenames:
        foreign = metafunc.config.getoption("--redis") or metafunc.config.getoption("--target")
        counts = [1] if foreign else [1, 2]
        metafunc.parametrize("node", counts, ids=["cores%d" % n for n in counts], indirect=True, scope="module")


@pytest.fixture(scope="module")
def node(request, targets):
    """The node of a module, once with one core and once with two."""
    node = targets.start(cores=request.param)
    yield node
    was_alive = node.alive()
    tail = node.log_tail()
    code = node.stop()
    assert was_alive, "the node died with %s:\n%s" % (code, tail)
    assert code in (0, None), "the node stopped with %s:\n%s" % (code, tail)


@pytest.fixture
def clean(node):
    """The module's node, emptied."""
    with node.connect() as connection:
        assert connection("FLUSHALL") == b"OK"
    return node
