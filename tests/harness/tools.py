"""Programs that tests need: found on PATH, never by a fixed place."""

import os
import shutil

import pytest

IN_CI = os.environ.get("CI") == "true"


def missing(tool, reason):
    """Something is not there: fatal in CI, loud elsewhere."""
    message = "%s is not there: %s" % (tool, reason)
    if IN_CI:
        pytest.fail(message)
    pytest.skip(message)


def tool(name, reason="run tests/setup.sh"):
    path = shutil.which(name)
    if not path:
        missing(name, reason)
    return path
