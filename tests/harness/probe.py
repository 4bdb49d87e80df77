"""A bystander: one client that must be served all the time while others misbehave."""

import threading
import time

from .node import wait_until
from .resp import Connection

ROUNDS_MIN = 3


class Probe(threading.Thread):
    """PING, SET and GET on a connection of its own, with the longest round trip seen.

    The bound that tests put on it is generous (seconds): it is about being served at all, not
    about latency on a busy two-core machine.
    """

    def __init__(self, node):
        super().__init__(daemon=True)
        self._node = node
        self._halt = threading.Event()
        self.rounds, self.longest, self.error = 0, 0.0, None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        if not exc[0]:
            wait_until(lambda: self.rounds >= ROUNDS_MIN or self.error, 30, "bystander served")
        self._halt.set()
        self.join(30)

    def run(self):
        try:
            with Connection(self._node.port, self._node.host, timeout=30) as connection:
                while not self._halt.wait(0.005):
                    self._round(connection)
        except Exception as error:  # reported by `check`, in the test's own thread
            self.error = error

    def _round(self, connection):
        value = b"probe-%d" % self.rounds
        started = time.monotonic()
        answers = [connection("PING"), connection("SET", "probe:key", value), connection("GET", "probe:key")]
        self.longest = max(self.longest, (time.monotonic() - started) / 3)
        if answers[:2] != [b"PONG", b"OK"] or answers[2] not in (value, None):
            raise AssertionError("bystander got %r" % (answers,))
        self.rounds += 1

    def check(self, bound_seconds=3.0):
        """To be called after the `with` block."""
        assert self.error is None, "bystander: %r" % self.error
        assert self.longest <= bound_seconds, "bystander waited %.2f s" % self.longest
