"""What begins like the native protocol and is not."""

import random

import pytest

from native import client as native
from native.client import Frame


@pytest.fixture(autouse=True)
def needs_pinnace(pinnace_only):
    """No other server speaks it."""


@pytest.mark.parametrize("seed", range(4))
def test_garbage_behind_the_magic_byte(guard, seed):
    draw = random.Random(seed)
    starts = [b"\xb7", b"\xb7\x01", b"\xb7\x01\x10", b"\xb7\x01\x12\x80", b"\xb7\x01\x11\0\0\0\0\0"]
    with guard.probe() as probe:
        for _ in range(60):
            with guard.node.connect() as connection:
                try:
                    connection.send(draw.choice(starts) + draw.randbytes(draw.randrange(1, draw.choice([30, 1000, 100_000]))))
                    connection.sock.shutdown(1)
                except OSError:
                    continue
                assert connection.is_closed_by_peer()
    probe.check()


@pytest.mark.parametrize("ending", ["fin", "rst"])
def test_frames_cut_off_at_every_byte(guard, ending):
    frames = [
        Frame(native.SET, key=b"cut", value=b"value", request_id=1).encode(),
        Frame(native.CAS, key=b"cut", value=b"value", version=3, request_id=1).encode(),
        Frame(native.HELLO, value=bytes(16), request_id=1).encode(),
    ]
    with guard.probe() as probe:
        for frame in frames:
            for cut in range(1, len(frame)):
                connection = guard.node.connect()
                connection.send(frame[:cut])
                if ending == "rst":
                    connection.reset()
                else:
                    connection.sock.shutdown(1)
                    assert connection.is_closed_by_peer(), cut
                    connection.close()
    probe.check()


def test_mutated_frames(guard):
    draw = random.Random(11)
    frames = [
        Frame(native.SET, key=b"m", value=b"v" * 50).encode(), Frame(native.GET, key=b"m").encode(),
        Frame(native.MULTI_GET, value=b"\2\0\0\0\1\0a\1\0b").encode(), Frame(native.NOOP).encode(),
        Frame(native.CAS, key=b"m", value=b"v", version=5).encode(),
        Frame(native.INCREMENT, key=b"n", value=bytes(16), code=1).encode(),
        Frame(native.HELLO, value=bytes(16)).encode(),
    ]
    with guard.probe() as probe:
        for _ in range(400):
            data = bytearray(b"".join(draw.choice(frames) for _ in range(draw.randrange(1, 8))))
            for _ in range(draw.randrange(1, 5)):
                data[draw.randrange(1, len(data))] = draw.randrange(256)
            with guard.node.connect() as connection:
                try:
                    connection.send(bytes(data))
                    connection.sock.shutdown(1)
                except OSError:
                    continue
                assert connection.is_closed_by_peer()
    probe.check()


@pytest.mark.timeout(120)
def test_large_frames_that_never_end(guard):
    """64 clients announce 512 MiB each, send 32 MiB of it and stop: memory stays bounded."""
    with guard.probe() as probe:
        connections = []
        for _ in range(64):
            connection = guard.node.connect(timeout=2)
            connections.append(connection)
            try:
                connection.send(native.HEADER.pack(0xB7, 1, native.SET, 0, 1, 0, 512 << 20, 1, 0))
                for _ in range(32):
                    connection.send(b"x" * (1 << 20))
            except OSError:
                pass  # Not read any more, or closed: both bound what it costs.
        for connection in connections:
            connection.close()
    probe.check(bound_seconds=5)


def test_replies_that_nobody_reads(guard):
    with guard.node.connect() as other:
        other("SET", "big", b"x" * 1_000_000)
    request = Frame(native.GET, key=b"big").encode() * 5000
    with guard.probe() as probe:
        crowd = [guard.node.connect(receive_buffer=4096) for _ in range(30)]
        for connection in crowd:
            connection.sock.setblocking(False)
            try:
                connection.sock.send(request)
            except BlockingIOError:
                pass
        with guard.node.connect() as other:
            assert other("STRLEN", "big") == 1_000_000
        for connection in crowd:
            connection.reset()
    probe.check(bound_seconds=5)
