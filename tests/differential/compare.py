"""Sends the same commands to a node and to a Redis and compares the replies byte for byte.

What may rightly differ is masked per command; everything else must be equal. The replies of a
transaction are compared one by one, each with the mask of its own command.
"""

import random

from harness.resp import encode, parse, split_array

from .grammar import SPREAD_KEYS, TAGGED_KEYS, Grammar

# Two servers are asked one after the other, on a machine that may be busy.
CLOCK_SKEW_MS = 3000


def same_in_any_order(ours, theirs):
    """KEYS: the order is free."""
    return ours[:1] == theirs[:1] == b"*" and sorted(parse(ours)) == sorted(parse(theirs))


def same_scan(ours, theirs):
    """The order is free. Cursors are not asked on: COUNT may end a scan early on one side only."""
    if not (ours[:1] == theirs[:1] == b"*"):
        return False
    ours, theirs = parse(ours), parse(theirs)
    if ours[0] != b"0" or theirs[0] != b"0":
        return True
    return sorted(ours[1]) == sorted(theirs[1])


def same_kind(ours, theirs):
    """Errors must be equal; of other replies only the type."""
    return ours[:1] == theirs[:1] and ours[:1] not in b"-!"


def same_time(ours, theirs):
    """A time or a span, in seconds or milliseconds: about equal, and both with a sign."""
    if not (ours[:1] == theirs[:1] == b":"):
        return False
    ours, theirs = int(ours[1:]), int(theirs[1:])
    return ours > 0 and theirs > 0 and abs(ours - theirs) <= CLOCK_SKEW_MS


MASKS = {
    b"KEYS": same_in_any_order,
    b"SCAN": same_scan,
    b"TTL": same_time,
    b"PTTL": same_time,
    b"EXPIRETIME": same_time,
    b"PEXPIRETIME": same_time,
    b"RANDOMKEY": same_kind,
    b"TIME": same_kind,
    b"INFO": same_kind,
    b"CLIENT ID": same_kind,
    b"CLIENT LIST": same_kind,
    b"CLIENT INFO": same_kind,
    b"CLIENT HELP": same_kind,
    b"MEMORY USAGE": same_kind,
    b"OBJECT FREQ": same_kind,
    b"OBJECT IDLETIME": same_kind,
    b"OBJECT REFCOUNT": same_kind,
    b"OBJECT HELP": same_kind,
    # Redis remembers that a value was once appended to; Pinnace tells the encoding from the value.
    b"OBJECT ENCODING": same_kind,
    b"SLOWLOG GET": same_kind,
    b"COMMAND COUNT": same_kind,
}


def equal(command, ours, theirs):
    if ours == theirs:
        return True
    name = command[0].upper()
    mask = MASKS.get(name) or MASKS.get(b" ".join((name, command[1].upper() if len(command) > 1 else b"")))
    return mask is not None and mask(ours, theirs)


class Mismatch(AssertionError):
    pass


def show(raw):
    return repr(raw[:300]) + ("..." if len(raw) > 300 else "")


def show_command(command):
    return " ".join(repr(part)[1:] if len(part) < 80 else "<%d bytes>" % len(part) for part in command)


class Pair:
    """One connection to each side, in the same protocol version."""

    def __init__(self, node, oracle, version):
        self.ours, self.theirs = node.connect(), oracle.connect()
        for connection in (self.ours, self.theirs):
            connection("FLUSHALL")
            connection("HELLO", version)
        self.version, self.history, self.queued = version, [], []

    def close(self):
        self.ours.close()
        self.theirs.close()

    def run(self, commands):
        """One pipeline of commands on both sides."""
        data = b"".join(encode(*command) for command in commands)
        self.ours.send(data)
        self.theirs.send(data)
        for command in commands:
            ours, theirs = self.ours.read_raw(), self.theirs.read_raw()
            self.history.append((command, ours, theirs))
            if not self._equal(command, ours, theirs):
                raise Mismatch(self.report())

    def _equal(self, command, ours, theirs):
        if ours == theirs == b"+QUEUED\r\n":
            self.queued.append(command)
            return True
        if command[0].upper() in (b"EXEC", b"DISCARD") and len(command) == 1:
            queued, self.queued = self.queued, []
            if ours != theirs and ours[:1] == theirs[:1] == b"*":
                ours, theirs = split_array(ours), split_array(theirs)
                return len(ours) == len(theirs) == len(queued) and all(map(equal, queued, ours, theirs))
        return equal(command, ours, theirs)

    def report(self, context=8):
        command, ours, theirs = self.history[-1]
        lines = ["reply differs in RESP%s:" % self.version, "  command %s" % show_command(command),
                 "  got     %s" % show(ours), "  Redis   %s" % show(theirs), "  before it:"]
        keys = [part for part in command[1:] if part in TAGGED_KEYS or part in SPREAD_KEYS]
        touching = [h for h in self.history[:-1] if not keys or any(key in h[0][1:] for key in keys)]
        if command[0].upper() == b"EXEC":  # What matters may lie as far back as the first WATCH since the last end.
            ends = [i for i, h in enumerate(self.history[:-1])
                    if h[0][0].upper() in (b"EXEC", b"DISCARD", b"UNWATCH") and h[2][:1] not in b"-"]
            context = max(context, len(self.history) - (ends[-1] if ends else 0))
        lines += ["    %s -> %s" % (show_command(h[0]), show(h[1])[:100]) for h in touching[-context:]]
        return "\n".join(lines)


def changed_since(command, version):
    """Whether Redis itself answers this otherwise after `version`, so that an old oracle is no measure."""
    name, sub = command[0].upper(), command[1].upper() if len(command) > 1 else b""
    if name == b"AUTH":
        return True
    if version >= (7, 2):
        return False
    return (
        (name == b"CLIENT" and sub in (b"SETINFO", b"NO-TOUCH"))
        or (name == b"COMMAND" and sub == b"GETKEYS")
        # Arguments are checked before the key is looked up.
        or (name in (b"BITCOUNT", b"BITPOS") and len(command) > 2)
        or (name == b"SCAN" and len(command) > 1 and not command[1].isdigit())
    )


def compare(node, oracle, seed, count, version, spread=False, depth_max=16, keep_going=False):
    """`count` commands in pipelines of random depth; returns the list of mismatch reports."""
    draw = random.Random(seed)
    grammar = Grammar(draw, spread)
    oracle_version = tuple(map(int, oracle.info("server")["redis_version"].split(".")[:2]))
    pair = Pair(node, oracle, version)
    reports, sent = [], 0
    try:
        while sent < count:
            batch = [grammar.command() for _ in range(draw.randrange(1, depth_max + 1))]
            sent += len(batch)
            try:
                pair.run([command for command in batch if not changed_since(command, oracle_version)])
            except Mismatch as mismatch:
                reports.append("seed %d, command %d: %s" % (seed, sent, mismatch))
                if not keep_going:
                    return reports
                pair.close()
                pair = Pair(node, oracle, version)
    finally:
        pair.close()
    return reports
