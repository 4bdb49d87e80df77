"""A client of the native protocol, written from docs/protocol.md alone.

Small and slow on purpose: it shows that the page is enough to write a client from, and it
reads strictly, so that a byte that the page does not allow is an error.
"""

import socket
import struct
import threading

MAGIC, PROTOCOL = 0xB7, 1
HEADER = struct.Struct("<BBBBHHIIQ")
EXTENSION = struct.Struct("<HHI")

HELLO, PING, NOOP = 0x01, 0x02, 0x03
GET, MULTI_GET, SET, DELETE, TOUCH, INCREMENT, CAS = 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16
CONNECTION_ERROR = 0x80

OK, NOT_FOUND, EXISTS, VERSION_MISMATCH = 0x0000, 0x0001, 0x0002, 0x0003
BAD_REQUEST, UNKNOWN_OPCODE, UNSUPPORTED, TOO_LARGE = 0x0100, 0x0101, 0x0102, 0x0103
NOT_A_NUMBER, OVERFLOW = 0x0104, 0x0105

QUIET, RETURN_VERSION, EXTENDED = 0x01, 0x10, 0x80
IF_ABSENT, IF_PRESENT, KEEP_DEADLINE, CREATE = 0x01, 0x02, 0x04, 0x01


class ProtocolError(Exception):
    """The node sent what the page does not allow."""


class Frame:
    def __init__(self, opcode, key=b"", value=b"", flags=0, code=0, request_id=0, deadline=0, version=None):
        """`code` is the options of a request and the status of a reply."""
        self.opcode, self.key, self.value, self.code = opcode, key, value, code
        self.request_id, self.deadline, self.version = request_id, deadline, version
        self.flags = flags & ~EXTENDED | (EXTENDED if version is not None else 0)

    @property
    def status(self):
        return self.code

    def encode(self):
        extension = b""
        if self.version is not None:
            extension = EXTENSION.pack(16, 1, 0) + struct.pack("<Q", self.version)
        data = HEADER.pack(MAGIC, PROTOCOL, self.opcode, self.flags, len(self.key), self.code,
                           len(self.value), self.request_id, self.deadline)
        data += extension + self.key + self.value
        return data + bytes(-len(data) % 8)

    def __repr__(self):
        return "Frame(%#x, key=%r, value=%r, flags=%#x, code=%#06x, id=%d, deadline=%d, version=%r)" % (
            self.opcode, self.key[:40], self.value[:80], self.flags, self.code, self.request_id, self.deadline, self.version)


def decode(data):
    """(frame, bytes used), or None while the frame is not complete."""
    if len(data) < HEADER.size:
        return None
    magic, protocol, opcode, flags, key_length, code, value_length, request_id, deadline = HEADER.unpack_from(data)
    if magic != MAGIC or protocol != PROTOCOL:
        raise ProtocolError("frame starts with %r" % bytes(data[:2]))
    extension_length, version = 0, None
    if flags & EXTENDED:
        if len(data) < HEADER.size + 8:
            return None
        extension_length, bits, reserved = EXTENSION.unpack_from(data, HEADER.size)
        if extension_length < 8 or extension_length % 8 or reserved:
            raise ProtocolError("bad extension block")
    key_at = HEADER.size + extension_length
    value_at = key_at + key_length
    end = value_at + value_length
    total = end + -end % 8
    if len(data) < total:
        return None
    if flags & EXTENDED and bits & 1:
        (version,) = struct.unpack_from("<Q", data, HEADER.size + 8)
        if version == 0:
            raise ProtocolError("version 0")
    if any(data[end:total]):
        raise ProtocolError("padding is not zero")
    frame = Frame(opcode, bytes(data[key_at:value_at]), bytes(data[value_at:end]), flags, code, request_id, deadline, version)
    return frame, total


class Hello:
    """The body of the reply to HELLO."""

    def __init__(self, body):
        (self.features, self.value_max, self.key_max, self.core, self.node_id, self.epoch, self.unanswered_max,
         core_count, shard_count, name_length, reserved) = struct.unpack_from("<QIHHQQIHHH6s", body)
        if any(reserved):
            raise ProtocolError("reserved bytes in HELLO")
        at = 48
        self.core_ports = struct.unpack_from("<%dH" % core_count, body, at)
        at += 2 * core_count
        self.shard_cores = struct.unpack_from("<%dH" % shard_count, body, at)
        at += 2 * shard_count
        self.name = body[at : at + name_length].decode()

    def core_of(self, key):
        return self.shard_cores[slot_of(key) * len(self.shard_cores) // 16384]


def slot_of(key):
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    crc = 0
    for byte in key:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc % 16384


class Client:
    """One connection; requests one by one or many at once."""

    def __init__(self, port, host="127.0.0.1", timeout=20):
        self.sock = socket.create_connection((host, port), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer, self.last_id = bytearray(), 0

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()

    def next_id(self):
        self.last_id = (self.last_id + 1) & 0xFFFFFFFF
        return self.last_id

    def receive(self):
        """The next reply; None when the node has closed."""
        while True:
            found = decode(self.buffer)
            if found:
                frame, used = found
                del self.buffer[:used]
                if frame.opcode < 0x80 or frame.key or frame.flags & ~EXTENDED:
                    raise ProtocolError("not a reply: %r" % frame)
                return frame
            chunk = self.sock.recv(1 << 18)
            if not chunk:
                return None
            self.buffer += chunk

    def call(self, opcode, **fields):
        """One request and its reply."""
        request = Frame(opcode, request_id=self.next_id(), **fields)
        self.sock.sendall(request.encode())
        reply = self.receive()
        if reply is None or reply.opcode != opcode | 0x80 or reply.request_id != request.request_id:
            raise ProtocolError("%r answered by %r" % (request, reply))
        return reply

    def call_many(self, frames):
        """All requests at once; replies by request id, in whatever order they come."""
        opcodes = {}
        for frame in frames:
            frame.request_id = self.next_id()
            opcodes[frame.request_id] = frame.opcode
        data = b"".join(frame.encode() for frame in frames)
        # Both ways at once: a node stops reading from one who does not read its replies.
        sender = threading.Thread(target=self.sock.sendall, args=(data,), daemon=True)
        sender.start()
        replies = {}
        while len(replies) < len(frames):
            reply = self.receive()
            if reply is None or opcodes.get(reply.request_id) != reply.opcode & 0x7F or reply.request_id in replies:
                raise ProtocolError("unexpected %r" % reply)
            replies[reply.request_id] = reply
        sender.join()
        return [replies[frame.request_id] for frame in frames]

    def hello(self, features=0xF, core=0xFFFF, name=b"tests"):
        body = struct.pack("<QHHHH", features, core, 0, len(name), 0) + name
        return Hello(self.call(HELLO, value=body).value)

    def multi_get(self, keys, flags=0):
        """[(status, value, deadline, version)] of each key."""
        body = struct.pack("<I", len(keys)) + b"".join(struct.pack("<H", len(key)) + key for key in keys)
        reply = self.call(MULTI_GET, value=body, flags=flags)
        if reply.status != OK:
            return reply
        count, reserved = struct.unpack_from("<II", reply.value)
        if count != len(keys) or reserved:
            raise ProtocolError("MULTI_GET of %d keys answered for %d" % (len(keys), count))
        at, entries = 8, []
        for _ in range(count):
            status, bits, length, deadline = struct.unpack_from("<HHIQ", reply.value, at)
            at += 16
            version = None
            if bits & 1:
                (version,) = struct.unpack_from("<Q", reply.value, at)
                at += 8
            entries.append((status, reply.value[at : at + length], deadline, version))
            at += length + -length % 8
        if at != len(reply.value):
            raise ProtocolError("MULTI_GET: %d bytes for %d" % (len(reply.value), at))
        return entries

    def increment(self, key, delta, initial=0, code=0, **fields):
        reply = self.call(INCREMENT, key=key, value=struct.pack("<qq", delta, initial), code=code, **fields)
        return struct.unpack("<q", reply.value)[0] if reply.status == OK else reply.status
