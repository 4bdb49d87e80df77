"""Free TCP ports for nodes under test.

Ports come from below the kernel's ephemeral range, so that an outgoing connection of some
test cannot take one between the check and the node's own bind.
"""

import random
import socket

FIRST, LAST = 12000, 31000
_taken = set()
_random = random.SystemRandom()


def is_free(port):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def free_ports(count=1):
    """`count` consecutive free ports; returns the first."""
    while True:
        first = _random.randrange(FIRST, LAST - count)
        wanted = range(first, first + count)
        if _taken.isdisjoint(wanted) and all(is_free(port) for port in wanted):
            _taken.update(wanted)
            return first
