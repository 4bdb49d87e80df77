"""The native protocol against a real node, and this client against the vectors of its specification."""

import ast
import os
import random
import re
import struct
import time

import pytest

from harness.node import MIB
from harness.resp import ReplyError

from . import client as native
from .client import Client, Frame

PAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "docs", "protocol.md")
FAR = 4_000_000_000_000


@pytest.fixture(autouse=True)
def needs_pinnace(pinnace_only):
    """No other server speaks it."""


@pytest.fixture
def wire(clean):
    with Client(clean.port, clean.host) as client:
        yield client


def vectors():
    with open(PAGE) as page:
        text = page.read()
    for name, fields, octets in re.findall(r"```vector (\S+)\n(.*?)\n---\n(.*?)\n```", text, re.S):
        given = dict(line.split(None, 1) for line in fields.splitlines())
        numbers = {k: int(v, 0) for k, v in given.items() if k not in ("key", "value")}
        for k in ("key", "value"):
            if k in given:
                numbers[k] = ast.literal_eval("b" + given[k])
        code = numbers.pop("status", numbers.pop("options", 0))
        yield name, Frame(numbers.pop("opcode"), code=code, **numbers), bytes.fromhex(octets)


@pytest.mark.parametrize("name,frame,octets", list(vectors()), ids=[v[0] for v in vectors()])
def test_vectors(name, frame, octets):
    assert frame.encode() == octets
    decoded, used = native.decode(octets)
    assert used == len(octets) and decoded.encode() == octets and repr(decoded) == repr(frame)
    for cut in range(len(octets)):
        assert native.decode(octets[:cut]) is None


def test_hello(clean, wire):
    hello = wire.hello()
    assert hello.features & ~0xF == 0 and hello.features & 1
    assert hello.key_max == 65535 and hello.value_max == 512 * MIB
    assert hello.node_id == 0 and hello.epoch == 0 and hello.unanswered_max > 0
    assert len(hello.core_ports) == clean.options.cores and set(hello.core_ports) == {0}
    assert set(hello.shard_cores) == set(range(clean.options.cores))
    assert hello.core < clean.options.cores
    assert hello.name.startswith("pinnace ")
    assert wire.hello(features=0).features == 0


def test_a_connection_moves_to_the_core_it_asks_for(clean):
    for core in range(clean.options.cores):
        with Client(clean.port, clean.host) as client:
            hello = client.hello(core=core)
            if hello.features & 2:
                assert hello.core == core
            keys = [b"moved:%d" % number for number in range(50)]
            replies = client.call_many([Frame(native.SET, key=key, value=key) for key in keys])
            assert {reply.status for reply in replies} == {native.OK}
            assert client.hello(core=core).core == hello.core
            replies = client.call_many([Frame(native.GET, key=key) for key in keys])
            assert [reply.value for reply in replies] == keys


def test_a_connection_moves_with_requests_under_way(clean):
    """HELLO between requests, asking for one core and then the other: no reply is lost or mixed up."""
    with Client(clean.port, clean.host) as client:
        for round_ in range(20):
            frames = []
            for number in range(40):
                key = b"way:%d" % number
                frames.append(Frame(native.SET, key=key, value=b"%d:%d" % (round_, number)))
                frames.append(Frame(native.GET, key=key))
                if number % 10 == 5:
                    body = struct.pack("<QHHHH", 0xF, (round_ + number) % clean.options.cores, 0, 0, 0)
                    frames.append(Frame(native.HELLO, value=body))
            replies = client.call_many(frames)
            got = [reply.value for frame, reply in zip(frames, replies) if frame.opcode == native.GET]
            assert got == [b"%d:%d" % (round_, number) for number in range(40)]


def test_ping_and_noop(wire):
    assert wire.call(native.PING, value=b"there?").value == b"there?"
    assert wire.call(native.PING).status == native.OK
    assert wire.call(native.NOOP).status == native.OK


def test_items(clean, wire):
    key = b"\0\xffitem"
    assert wire.call(native.GET, key=key).status == native.NOT_FOUND
    assert wire.call(native.SET, key=key, value=b"one").status == native.OK
    reply = wire.call(native.GET, key=key)
    assert (reply.status, reply.value, reply.deadline, reply.version) == (native.OK, b"one", 0, None)
    assert wire.call(native.SET, key=key, value=b"two", code=native.IF_ABSENT).status == native.EXISTS
    assert wire.call(native.SET, key=b"no", value=b"", code=native.IF_PRESENT).status == native.NOT_FOUND
    assert wire.call(native.SET, key=key, value=b"", code=3).status == native.BAD_REQUEST
    assert wire.call(native.SET, key=key, value=b"", code=native.IF_PRESENT).status == native.OK
    assert wire.call(native.GET, key=key).value == b""
    assert wire.call(native.DELETE, key=key).status == native.OK
    assert wire.call(native.DELETE, key=key).status == native.NOT_FOUND


def test_deadlines(clean, wire):
    assert wire.call(native.SET, key=b"d", value=b"x", deadline=FAR).status == native.OK
    assert wire.call(native.GET, key=b"d").deadline == FAR
    assert wire.call(native.SET, key=b"d", value=b"y", code=native.KEEP_DEADLINE).status == native.OK
    assert wire.call(native.GET, key=b"d").deadline == FAR
    assert wire.call(native.TOUCH, key=b"d").status == native.OK
    assert wire.call(native.GET, key=b"d").deadline == 0
    assert wire.call(native.TOUCH, key=b"d", deadline=FAR + 1).status == native.OK
    with clean.connect() as resp:
        assert resp("PEXPIRETIME", "d") == FAR + 1
    assert wire.call(native.SET, key=b"d", value=b"z").status == native.OK
    assert wire.call(native.GET, key=b"d").deadline == 0
    assert wire.call(native.TOUCH, key=b"d", deadline=1).status == native.OK
    assert wire.call(native.GET, key=b"d").status == native.NOT_FOUND
    assert wire.call(native.TOUCH, key=b"d", deadline=1).status == native.NOT_FOUND
    assert wire.call(native.SET, key=b"past", value=b"z", deadline=1).status == native.OK
    assert wire.call(native.GET, key=b"past").status == native.NOT_FOUND
    assert wire.call(native.SET, key=b"late", value=b"z", deadline=(1 << 64) - 1).status == native.OK
    assert wire.call(native.GET, key=b"late").deadline == (1 << 48) - 1
    soon = int(time.time() * 1000) + 100
    assert wire.call(native.SET, key=b"soon", value=b"z", deadline=soon).status == native.OK
    while wire.call(native.GET, key=b"soon").status == native.OK:
        assert time.time() * 1000 < soon + 5000
    assert time.time() * 1000 >= soon - 5


def test_increment(wire):
    assert wire.increment(b"n", 1) == native.NOT_FOUND
    assert wire.increment(b"n", 1, 10, native.CREATE, deadline=FAR) == 10
    assert wire.increment(b"n", -25) == -15
    assert wire.call(native.GET, key=b"n").value == b"-15"
    assert wire.call(native.GET, key=b"n").deadline == FAR
    wire.call(native.SET, key=b"n", value=b"9223372036854775807")
    assert wire.increment(b"n", 1) == native.OVERFLOW
    assert wire.call(native.GET, key=b"n").value == b"9223372036854775807"
    wire.call(native.SET, key=b"n", value=b"abc")
    assert wire.increment(b"n", 1) == native.NOT_A_NUMBER
    assert wire.call(native.INCREMENT, key=b"n", value=b"short").status == native.BAD_REQUEST


def test_compare_and_set(wire):
    wire.call(native.SET, key=b"c", value=b"1")
    seen = wire.call(native.GET, key=b"c", flags=native.RETURN_VERSION)
    assert seen.version
    assert wire.call(native.GET, key=b"c", flags=native.RETURN_VERSION).version == seen.version
    swapped = wire.call(native.CAS, key=b"c", value=b"2", version=seen.version, flags=native.RETURN_VERSION)
    assert swapped.status == native.OK and swapped.version not in (None, seen.version)
    assert wire.call(native.CAS, key=b"c", value=b"3", version=seen.version).status == native.VERSION_MISMATCH
    refused = wire.call(native.CAS, key=b"c", value=b"3", version=seen.version, flags=native.RETURN_VERSION)
    assert refused.status == native.VERSION_MISMATCH and refused.version == swapped.version
    assert wire.call(native.GET, key=b"c").value == b"2"
    assert wire.call(native.CAS, key=b"absent", value=b"x", version=1).status == native.NOT_FOUND
    assert wire.call(native.CAS, key=b"c", value=b"x").status == native.BAD_REQUEST
    wire.call(native.DELETE, key=b"c")
    written = wire.call(native.SET, key=b"c", value=b"2", flags=native.RETURN_VERSION)
    assert written.version not in (None, swapped.version, seen.version)
    wire.call(native.TOUCH, key=b"c", deadline=FAR)
    assert wire.call(native.GET, key=b"c", flags=native.RETURN_VERSION).version != written.version


def test_versions_see_changes_made_by_resp(clean, wire):
    written = wire.call(native.SET, key=b"c", value=b"1", flags=native.RETURN_VERSION)
    with clean.connect() as resp:
        assert resp("APPEND", "c", "2") == 2
        assert wire.call(native.CAS, key=b"c", value=b"lost", version=written.version).status == native.VERSION_MISMATCH
        assert resp("GET", "c") == b"12"


def test_multi_get(wire):
    wire.call(native.SET, key=b"m:1", value=b"one", deadline=FAR)
    wire.call(native.SET, key=b"m:2", value=b"")
    wire.call(native.SET, key=b"m:3", value=b"x" * 100_001)
    entries = wire.multi_get([b"m:1", b"absent", b"m:2", b"m:3", b"m:1"])
    assert entries == [
        (native.OK, b"one", FAR, None), (native.NOT_FOUND, b"", 0, None), (native.OK, b"", 0, None),
        (native.OK, b"x" * 100_001, 0, None), (native.OK, b"one", FAR, None),
    ]
    versions = [entry[3] for entry in wire.multi_get([b"m:1", b"absent"], native.RETURN_VERSION)]
    assert versions[0] == wire.call(native.GET, key=b"m:1", flags=native.RETURN_VERSION).version and versions[1] is None
    assert wire.multi_get([]) == []
    keys = [b"many:%d" % number for number in range(5000)]
    wire.call_many([Frame(native.SET, key=key, value=key) for key in keys])
    assert [entry[1] for entry in wire.multi_get(keys)] == keys
    for body in (b"", b"\1\0\0\0", b"\1\0\0\0\5\0abc", b"\1\0\0\0\1\0ab", b"\xff\xff\xff\xff\1\0a"):
        assert wire.call(native.MULTI_GET, value=body).status == native.BAD_REQUEST, body


def test_quiet_requests_and_noop(wire):
    frames = [
        Frame(native.SET, key=b"q", value=b"1", flags=native.QUIET, request_id=101),
        Frame(native.GET, key=b"absent", flags=native.QUIET, request_id=102),
        Frame(native.GET, key=b"q", flags=native.QUIET, request_id=103),
        Frame(native.DELETE, key=b"absent", flags=native.QUIET, request_id=104),
        Frame(native.TOUCH, key=b"q", flags=native.QUIET, request_id=105),
        Frame(native.INCREMENT, key=b"q", value=struct.pack("<qq", 1, 0), flags=native.QUIET, request_id=106),
        Frame(native.SET, key=b"q", value=b"1", flags=native.QUIET, code=native.IF_ABSENT, request_id=107),
        Frame(native.NOOP, request_id=108),
    ]
    wire.sock.sendall(b"".join(frame.encode() for frame in frames))
    got = {}
    while 108 not in got:
        reply = wire.receive()
        got[reply.request_id] = reply
    assert {k: v.status for k, v in got.items()} == {
        103: native.OK, 104: native.NOT_FOUND, 107: native.EXISTS, 108: native.OK
    }
    assert wire.call(native.GET, key=b"q").value == b"2"


def test_noop_ends_a_pipeline_over_all_cores(wire):
    """Its reply comes behind all others, however many cores they come from."""
    for round_ in range(30):
        frames = [Frame(native.SET, key=b"noop:%d" % n, value=b"x", request_id=n) for n in range(1, 300)]
        wire.sock.sendall(b"".join(frame.encode() for frame in frames) + Frame(native.NOOP, request_id=9999).encode())
        seen = [wire.receive().request_id for _ in range(300)]
        assert seen[-1] == 9999 and sorted(seen[:-1]) == list(range(1, 300))


def test_requests_for_one_key_keep_their_order(wire):
    keys = [b"order:%d" % number for number in range(20)]
    for round_ in range(10):
        frames = [Frame(native.INCREMENT, key=key, value=struct.pack("<qq", 1, 1), code=native.CREATE)
                  for _ in range(20) for key in keys]
        replies = wire.call_many(frames)
        for index, key in enumerate(keys):
            numbers = [struct.unpack("<q", reply.value)[0] for reply in replies[index::20]]
            assert numbers == list(range(round_ * 20 + 1, round_ * 20 + 21)), key


def test_many_requests_under_way(wire):
    """More than may be unanswered: further ones wait, none is lost."""
    count = 60_000
    keys = [b"deep:%d" % (number % 3000) for number in range(count)]
    wire.call_many([Frame(native.SET, key=key, value=key * 3) for key in keys[:3000]])
    replies = wire.call_many([Frame(native.GET, key=key) for key in keys])
    assert all(reply.value == key * 3 for key, reply in zip(keys, replies))


def test_large_values(clean, wire):
    value = random.Random(1).randbytes(MIB) * 64
    assert wire.call(native.SET, key=b"large", value=value).status == native.OK
    assert wire.call(native.GET, key=b"large").value == value
    with clean.connect() as resp:
        assert resp("GET", "large") == value
    for size in (0, 1, 7, 8, 16383, 16384, 65536, MIB + 1):
        assert wire.call(native.SET, key=b"size", value=value[:size]).status == native.OK
        assert wire.call(native.GET, key=b"size").value == value[:size]


def test_both_protocols_see_the_same_items(clean, wire):
    with clean.connect() as resp:
        for number in range(100):
            key = b"both:%d" % number
            assert resp("SET", key, b"resp", "PX", 100_000) == b"OK"
            reply = wire.call(native.GET, key=key)
            assert reply.value == b"resp" and abs(reply.deadline - time.time() * 1000 - 100_000) < 5000
            assert wire.call(native.SET, key=key, value=b"native").status == native.OK
            assert resp("GET", key) == b"native" and resp("TTL", key) == -1


@pytest.mark.parametrize("fields,status", [
    (dict(opcode=0x00), native.UNKNOWN_OPCODE),
    (dict(opcode=0x04), native.UNKNOWN_OPCODE),
    (dict(opcode=0x3F), native.UNKNOWN_OPCODE),
    (dict(opcode=0x40, key=b"log"), native.UNKNOWN_OPCODE),
    (dict(opcode=0x7F), native.UNKNOWN_OPCODE),
    (dict(opcode=native.GET, key=b"k", value=b"not empty"), native.BAD_REQUEST),
    (dict(opcode=native.PING, key=b"not empty"), native.BAD_REQUEST),
    (dict(opcode=native.NOOP, value=b"not empty"), native.BAD_REQUEST),
    (dict(opcode=native.GET, key=b"k", flags=0x20), native.UNSUPPORTED),
    (dict(opcode=native.GET, key=b"k", flags=0x40), native.UNSUPPORTED),
    (dict(opcode=native.SET, key=b"k", code=0x8000), native.UNSUPPORTED),
    (dict(opcode=native.GET, key=b"k", code=0x0001), native.UNSUPPORTED),
    (dict(opcode=native.HELLO, value=b"short"), native.BAD_REQUEST),
], ids=lambda value: repr(value)[:60])
def test_requests_that_are_refused(wire, fields, status):
    """Answered with a status; the connection goes on."""
    reply = wire.call(**fields)
    assert reply.status == status, reply
    assert wire.call(native.PING, value=b"on").value == b"on"


def test_reserved_extension_bits(wire):
    """Bits 1 to 7 are skipped, bits 8 to 15 are answered UNSUPPORTED."""
    for bits, status in ((0x02, native.NOT_FOUND), (0x0100, native.UNSUPPORTED)):
        head = native.HEADER.pack(0xB7, 1, native.GET, native.EXTENDED, 1, 0, 0, 55, 0)
        wire.sock.sendall(head + native.EXTENSION.pack(16, bits, 0) + bytes(8) + b"k" + bytes(7))
        reply = wire.receive()
        assert (reply.request_id, reply.status) == (55, status)


BROKEN = {
    "magic": b"*1\r\n$4\r\nPING\r\n",
    "version": b"\xb7\x02" + bytes(22),
    "extension too short": bytes.fromhex("b701108001000000 0000000001000000 0000000000000000 0800010000000000 6b00000000000000"),
    "extension unaligned": bytes.fromhex("b701108001000000 0000000001000000 0000000000000000 0c00000000000000"),
    "extension of length zero": bytes.fromhex("b701108001000000 0000000001000000 0000000000000000 0000000000000000"),
    "value over the limit": native.HEADER.pack(0xB7, 1, native.SET, 0, 1, 0, 0xFFFFFFFF, 1, 0),
    "value one over the limit": native.HEADER.pack(0xB7, 1, native.SET, 0, 1, 0, (512 << 20) + 1, 1, 0),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_frames(clean, wire, name):
    """The requests before it are carried out, then CONNECTION_ERROR, then the end."""
    wire.sock.sendall(Frame(native.SET, key=b"before", value=b"done", request_id=7).encode() + BROKEN[name])
    seen = []
    while (reply := wire.receive()) is not None:
        seen.append(reply)
    assert [reply.opcode for reply in seen] == [0x92, native.CONNECTION_ERROR], seen
    assert seen[1].request_id == 0 and seen[1].status >= 0x0100 and seen[1].value
    with clean.connect() as resp:
        assert resp("GET", "before") == b"done"


def test_frames_in_pieces(wire):
    data = Frame(native.SET, key=b"piece", value=b"by piece", request_id=1).encode()
    data += Frame(native.CAS, key=b"piece", value=b"x", version=9, request_id=2).encode()
    for cut in range(1, len(data)):
        wire.sock.sendall(data[:cut])
        wire.sock.sendall(data[cut:])
        assert {wire.receive().request_id for _ in range(2)} == {1, 2}


def test_key_over_the_configured_limit(start):
    node = start(extra=("--max-key-size", "100", "--max-value-size", "1000"))
    with Client(node.port) as client:
        hello = client.hello()
        assert (hello.key_max, hello.value_max) == (100, 1000)
        assert client.call(native.SET, key=b"k" * 100, value=b"v" * 1000).status == native.OK
        client.sock.sendall(Frame(native.GET, key=b"k" * 101).encode())
        assert client.receive().opcode == native.CONNECTION_ERROR and client.receive() is None
    with node.connect() as resp:
        assert isinstance(resp("SET", "k" * 101, "v"), ReplyError)
        assert resp("PING") == b"PONG"


def test_core_ports(start, targets):
    from harness.ports import free_ports

    base = free_ports(2)
    node = start(cores=2, extra=("--core-ports", str(base)))
    with Client(node.port) as client:
        hello = client.hello()
        assert hello.core_ports == (base, base + 1)
    for core in (0, 1):
        with Client(base + core) as client:
            assert client.hello().core == core
            keys = [key for key in (b"own:%d" % n for n in range(100)) if hello.core_of(key) == core]
            replies = client.call_many([Frame(native.SET, key=key, value=key) for key in keys])
            assert {reply.status for reply in replies} == {native.OK}
            # Every core answers for every key all the same.
            assert client.multi_get([b"own:%d" % n for n in range(100) if hello.core_of(b"own:%d" % n) != core])
