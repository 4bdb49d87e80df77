"""Bytes that are no request: random, cut off, with lengths that lie, nested."""

import random
import socket

import pytest

from harness.node import MIB, wait_until
from harness.resp import ReplyError, encode

FRAMES = [
    encode("PING"),
    encode("SET", "cut", "value"),
    encode("MGET", "a", "b", "c"),
    b"SET inline 'quoted value'\r\n",
    encode("GET", b"\0\xff") + encode("SET", "x", "y" * 100),
    b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$0\r\n\r\n",
]


def is_closed_after(connection, data):
    """Sends `data` and the end of the stream: the node must close, whatever it made of it."""
    try:
        connection.send(data)
        connection.sock.shutdown(socket.SHUT_WR)
    except OSError:
        return True  # It has closed already.
    return connection.is_closed_by_peer()


@pytest.mark.parametrize("ending", ["fin", "rst", "half-close"])
def test_requests_cut_off_at_every_byte(guard, ending):
    with guard.probe() as probe:
        for frame in FRAMES:
            for cut in range(len(frame)):
                connection = guard.node.connect()
                if cut:
                    connection.send(frame[:cut])
                if ending == "rst":
                    connection.reset()
                    continue
                if ending == "half-close":
                    connection.sock.shutdown(socket.SHUT_WR)
                    assert connection.is_closed_by_peer(), "not closed after %r" % frame[:cut]
                connection.close()
    probe.check()


def test_requests_in_two_pieces_at_every_byte(guard):
    with guard.node.connect() as connection:
        frame = encode("SET", "piece", b"\r\n$5\r\n") + b"PING\r\n" + encode("GET", "piece")
        for cut in range(1, len(frame)):
            connection.send(frame[:cut])
            connection.send(frame[cut:])
            assert [connection.read() for _ in range(3)] == [b"OK", b"PONG", b"\r\n$5\r\n"]


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes(guard, seed):
    draw = random.Random(seed)
    starts = [b"", b"*", b"$", b"*1\r\n", b"*1\r\n$", b"*3\r\n$3\r\nSET\r\n$", b"\r\n", b"\n\n", b'"', b"'"]
    with guard.probe() as probe:
        for _ in range(60):
            with guard.node.connect() as connection:
                junk = draw.choice(starts) + draw.randbytes(draw.randrange(1, draw.choice([10, 1000, 200_000])))
                assert is_closed_after(connection, junk)
    probe.check()


def test_mutated_requests(guard):
    """Valid pipelines with a few bytes changed: more of them get past the first check than random bytes."""
    draw = random.Random(7)
    with guard.probe() as probe:
        for _ in range(300):
            data = bytearray(b"".join(draw.choice(FRAMES) for _ in range(draw.randrange(1, 6))))
            for _ in range(draw.randrange(1, 4)):
                position = draw.randrange(len(data))
                change = draw.randrange(3)
                if change == 0:
                    data[position] = draw.randrange(256)
                elif change == 1:
                    del data[position]
                else:
                    data.insert(position, draw.randrange(256))
            with guard.node.connect() as connection:
                assert is_closed_after(connection, bytes(data))
    probe.check()


@pytest.mark.parametrize("data,text", [
    (b"*1\r\n$9999999999\r\n", "invalid bulk length"),
    (b"*1\r\n$9223372036854775808\r\n", "invalid bulk length"),
    (b"*1\r\n$99999999999999999999999999\r\n", "invalid bulk length"),
    (b"*1\r\n$-1\r\n", "invalid bulk length"),
    (b"*1\r\n$-9999999999\r\n", "invalid bulk length"),
    (b"*1\r\n$\r\n", "invalid bulk length"),
    (b"*1\r\n$abc\r\n", "invalid bulk length"),
    (b"*1\r\n$1.5\r\n", "invalid bulk length"),
    (b"*9999999999\r\n", "invalid multibulk length"),
    (b"*2147483648\r\n", "invalid multibulk length"),
    (b"*abc\r\n", "invalid multibulk length"),
    (b"*1\r\n*1\r\n$4\r\nPING\r\n", "expected '$', got '*'"),
    (b"*1\r\n" * 10_000, "expected '$', got '*'"),
    (b"*1000\r\n" * 10_000, "expected '$', got '*'"),
    (b"*1\r\n:1\r\n", "expected '$', got ':'"),
    (b"*1\r\nPING\r\n", "expected '$', got 'P'"),
    (b"*" + b"1" * 70_000, "too big mbulk count string"),
    (b"*1\r\n$" + b"1" * 70_000, "too big bulk count string"),
    (b"x" * 70_000, "too big inline request"),
    (b'PING "open\r\n', "unbalanced quotes in request"),
], ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else "")
def test_lengths_that_lie(guard, data, text):
    """Redis' own error, then the connection is closed; the request before it was answered."""
    with guard.node.connect() as connection:
        try:
            connection.send(b"PING\r\n" + data)
        except ConnectionError:
            pass
        assert connection.read() == b"PONG"
        error = connection.read()
        assert isinstance(error, ReplyError) and str(error).startswith("ERR Protocol error: " + text), error
        assert connection.is_closed_by_peer()


@pytest.mark.parametrize("data", [b"*0\r\n", b"*-1\r\n", b"*-2147483648\r\n", b"\r\n", b"\n", b"   \r\n"],
                         ids=lambda data: repr(data))
def test_requests_that_ask_for_nothing(guard, data):
    with guard.node.connect() as connection:
        connection.send(data * 1000 + encode("PING"))
        assert connection.read() == b"PONG"


def test_declared_counts_cost_nothing(guard):
    """Arrays that announce as many arguments as there may be, and then nothing."""
    with guard.probe() as probe:
        connections = [guard.node.connect() for _ in range(200)]
        for connection in connections:
            connection.send(b"*1048576\r\n$3\r\nDEL\r\n")
        # The core that is asked may have accepted all of its own before another one has.
        wait_until(lambda: guard.node.info("clients")["connected_clients"] in ("202", "201"), 10, "clients are counted")
        for connection in connections:
            connection.reset()
    probe.check()


@pytest.mark.timeout(120)
def test_a_million_arguments(guard):
    """As many as there may be, in one command."""
    count = 1_000_000
    with guard.probe() as probe, guard.node.connect(timeout=60) as connection:
        connection.send(b"*%d\r\n$3\r\nDEL\r\n" % (count + 1) + b"$1\r\nk\r\n" * count)
        assert connection.read() == 0
        assert connection("SET", "k", "v") == b"OK"
        assert connection("GET", "k") == b"v"
    probe.check()


@pytest.mark.timeout(120)
def test_large_requests_that_never_end(guard, stricter_than_redis):
    """64 clients announce 512 MiB each, send 32 MiB of it (2 GiB together) and stop: memory stays bounded."""
    chunk = b"x" * MIB
    connections = []
    with guard.probe() as probe:
        for _ in range(64):
            connection = guard.node.connect(timeout=2)
            connections.append(connection)
            try:
                connection.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n")
                for _ in range(32):
                    connection.send(chunk)
            except (ConnectionError, TimeoutError):
                pass  # Not read any more, or closed: both bound what it costs.
        with guard.node.connect() as other:
            assert other("SET", "other", "served") == b"OK"
    for connection in connections:
        connection.close()
    probe.check(bound_seconds=5)


def test_unknown_commands_with_large_arguments_are_quoted_short(guard):
    with guard.node.connect() as connection:
        error = connection("x" * 100_000, "y" * 100_000)
        assert isinstance(error, ReplyError) and len(str(error)) < 1000
        error = connection("NO\r\nSUCH", "a\r\nb")
        assert "\r" not in str(error) and "\n" not in str(error)
        assert connection("PING") == b"PONG"


def test_quit_and_commands_behind_it(guard):
    with guard.node.connect() as connection:
        connection.send(encode("QUIT") + encode("SET", "behind", "1"))
        assert connection.read() == b"OK"
        assert connection.is_closed_by_peer()
    with guard.node.connect() as connection:
        assert connection("EXISTS", "behind") == 0


def test_disconnect_in_the_middle_of_a_transaction(guard):
    for _ in range(50):
        connection = guard.node.connect()
        connection.send(encode("WATCH", "{t}k") + encode("MULTI") + encode("SET", "{t}k", "1"))
        connection.reset()
    with guard.node.connect() as connection:
        assert connection("EXISTS", "{t}k") == 0
