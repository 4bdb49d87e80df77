"""ioredis and node-redis: runs the scripts of tests/node and reports each of their tests by name."""

import os
import re
import subprocess

import pytest

from harness.tools import missing, tool


FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "node")
SCRIPTS = ["ioredis.mjs", "node-redis.mjs"]


def names_of(script):
    with open(os.path.join(FOLDER, script)) as source:
        names = re.findall(r"^\s*test\(['`]([^'`]+)['`]", source.read(), re.M)
    return [
        name.replace("${RESP}", version)
        for name in names
        for version in (["2", "3"] if "${RESP}" in name else [""])
    ]


@pytest.fixture(scope="module")
def results(node):
    """Runs each script once and caches what it printed."""
    if not os.path.isdir(os.path.join(FOLDER, "node_modules", "ioredis")):
        missing("ioredis", "run tests/setup.sh")
    outputs = {}
    for script in SCRIPTS:
        done = subprocess.run(
            [tool("node"), script, node.host, str(node.port)],
            cwd=FOLDER, capture_output=True, text=True, timeout=110,
        )
        outputs[script] = done.stdout, done.stderr
    return outputs


@pytest.mark.timeout(240)
@pytest.mark.parametrize("script,name", [(script, name) for script in SCRIPTS for name in names_of(script)])
def test_node(results, script, name):
    output, errors = results[script]
    lines = [line for line in output.splitlines() if line == "ok " + name or line.startswith("not ok %s:" % name)]
    assert lines, "no result; output ends with %r, errors: %s" % (output[-300:], errors[-1500:])
    assert lines[0] == "ok " + name, lines[0]
