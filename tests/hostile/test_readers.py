"""Clients that ask and do not read: paused or dropped, never a burden to others."""

import socket
import threading
import time

import pytest

from harness.node import MIB
from harness.resp import encode


def quiet_connection(node):
    """A connection with a small receive window that will not read."""
    return node.connect(receive_buffer=4096)


def push(sock, data, seconds):
    """Sends until nothing more is taken for a while; returns how much was taken."""
    sock.setblocking(False)
    sent, view, deadline = 0, memoryview(data), time.monotonic() + seconds
    while sent < len(data) and time.monotonic() < deadline:
        try:
            sent += sock.send(view[sent : sent + MIB])
        except BlockingIOError:
            time.sleep(0.01)
        except ConnectionError:
            break
    sock.settimeout(20)
    return sent


@pytest.mark.parametrize("size", [100, 64 << 10, 4 << 20])
def test_large_replies_that_nobody_reads(guard, stricter_than_redis, size):
    """Fifty clients ask for gigabytes and read nothing."""
    with guard.node.connect() as connection:
        for number in range(16):
            connection("SET", "large:%d" % number, b"x" * size)
    keys = ["large:%d" % (number % 16) for number in range(100 if size <= 64 << 10 else 16)]
    request = encode("MGET", *keys) * 50
    with guard.probe() as probe:
        crowd = [quiet_connection(guard.node) for _ in range(50)]
        for connection in crowd:
            push(connection.sock, request, 0.2)
        with guard.node.connect() as other:
            assert other("GET", "large:3") == b"x" * size
        for connection in crowd:
            connection.reset()
    probe.check(bound_seconds=5)


@pytest.mark.timeout(180)
def test_a_million_commands_before_the_first_read(guard):
    """The sender is held back; when it reads at last, every reply is there and in order."""
    count = 1_000_000
    with guard.probe() as probe, guard.node.connect(timeout=60) as connection:
        data = memoryview(encode("INCR", "million") * count)
        sent = push(connection.sock, data, 3)
        sender = threading.Thread(target=connection.sock.sendall, args=(data[sent:],), daemon=True)
        connection.sock.settimeout(60)
        sender.start()
        expected = b"".join(b":%d\r\n" % number for number in range(1, count + 1))
        received = bytearray()
        while len(received) < len(expected):
            chunk = connection.sock.recv(MIB)
            assert chunk, "closed after %d bytes of replies" % len(received)
            received += chunk
        sender.join(20)
        assert received == expected
        assert connection("PING") == b"PONG"
    probe.check(bound_seconds=5)


@pytest.mark.timeout(120)
def test_subscriber_that_never_reads(guard):
    """It is dropped at a limit; the publisher and another subscriber do not notice."""
    message = b"m" * (64 << 10)
    with guard.node.connect() as publisher, guard.node.connect() as good, guard.probe() as probe:
        good("SUBSCRIBE", "flood")
        lazy = [quiet_connection(guard.node) for _ in range(5)]
        for connection in lazy:
            assert connection("SUBSCRIBE", "flood") == [b"subscribe", b"flood", 1]
        receivers = 6
        for number in range(6000):
            receivers = publisher("PUBLISH", "flood", message)
            assert good.read() == [b"message", b"flood", message]
            if receivers == 1:
                break
        for connection in lazy:
            connection.reset()
    probe.check(bound_seconds=5)


def test_monitor_that_never_reads(guard):
    with guard.node.connect() as busy, guard.probe() as probe:
        lazy = quiet_connection(guard.node)
        assert lazy("MONITOR") == b"OK"
        value = b"v" * 10_000
        for _ in range(30):
            assert busy.pipeline([("SET", "watched", value)] * 100) == [b"OK"] * 100
        lazy.reset()
    probe.check(bound_seconds=5)


def test_slow_reader_gets_everything(guard):
    """A reader with a tiny window that reads on: paused, not dropped, and nothing is lost."""
    value = bytes(range(256)) * 4096 * 4
    with guard.node.connect() as other:
        other("SET", "slow", value)
    connection = quiet_connection(guard.node)
    connection.send(encode("GET", "slow") * 5 + encode("PING"))
    for _ in range(5):
        assert connection.read() == value
    assert connection.read() == b"PONG"
    connection.close()


def test_values_change_while_their_reply_is_being_sent(guard):
    """A reply holds the value of its time, whatever happens to the key before the last byte has left."""
    size = 8 * MIB
    with guard.node.connect() as writer:
        for way in ("overwrite", "delete", "append", "flush"):
            writer("SET", "pinned", b"a" * size)
            reader = quiet_connection(guard.node)
            reader.send(encode("GET", "pinned") + encode("STRLEN", "nothing"))
            # The first bytes prove that the reply is under way.
            assert reader.sock.recv(1, socket.MSG_PEEK) == b"$"
            if way == "overwrite":
                for letter in (b"b", b"c", b"d"):
                    writer("SET", "pinned", letter * size)
            elif way == "delete":
                writer("DEL", "pinned")
                writer("SET", "other", b"e" * size)
            elif way == "append":
                writer("APPEND", "pinned", b"f")
                writer("SETRANGE", "pinned", 0, b"g" * 1000)
            else:
                writer("FLUSHALL")
            assert reader.read() == b"a" * size, way
            assert reader.read() == 0
            reader.close()


def test_a_client_that_stops_sending_before_it_reads_gets_every_reply(guard):
    """Half-closed at once, with more asked for than any buffer holds."""
    value = b"x" * MIB
    with guard.node.connect() as connection:
        assert connection("SET", "large", value) == b"OK"
    for _ in range(5):
        with guard.node.connect() as connection:
            connection.send(encode("GET", "large") * 40)
            connection.sock.shutdown(socket.SHUT_WR)
            received = connection.read_to_end(timeout=30)
            assert len(received) == 40 * (MIB + len(b"$1048576\r\n\r\n"))
