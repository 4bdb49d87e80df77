"""A raw RESP connection: bytes out, bytes in.

It keeps the exact bytes of every reply, which no client library does; the differential and
the hostile tests need them. It does not pool, retry or hide anything.
"""

import socket
import time


class ReplyError(Exception):
    """An error reply (`-...` or `!...`), as a value."""

    def __eq__(self, other):
        return isinstance(other, ReplyError) and self.args == other.args

    def __hash__(self):
        return hash(self.args)


class Push(list):
    """An out-of-band RESP3 value."""


class Closed(Exception):
    """The other side closed the connection."""


def encode(*args):
    """One command as a RESP array of bulk strings."""
    out = [b"*%d\r\n" % len(args)]
    for arg in args:
        if isinstance(arg, str):
            arg = arg.encode()
        elif isinstance(arg, (int, float)):
            arg = str(arg).encode()
        out.append(b"$%d\r\n%b\r\n" % (len(arg), arg))
    return b"".join(out)


class Connection:
    """One blocking connection with a deadline on every read."""

    def __init__(self, port, host="127.0.0.1", timeout=20.0, receive_buffer=None):
        self.timeout = timeout
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(timeout)
        self.sock.connect((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buf = bytearray()
        self._pos = 0

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.sock.close()

    def reset(self):
        """Closes with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def send_command(self, *args):
        self.sock.sendall(encode(*args))

    def __call__(self, *args):
        """Sends one command and returns its parsed reply; error replies are returned, not raised."""
        self.send_command(*args)
        return self.read()

    def pipeline(self, commands):
        self.sock.sendall(b"".join(encode(*command) for command in commands))
        return [self.read() for _ in commands]

    # --- reading -------------------------------------------------------------------------

    def _fill(self):
        if self._pos > 1 << 16:
            del self._buf[: self._pos]
            self._pos = 0
        chunk = self.sock.recv(1 << 18)
        if not chunk:
            raise Closed
        self._buf += chunk

    def _line_end(self, rel):
        """Offset of the next CRLF; offsets are relative to `_pos`, which `_fill` may move."""
        while True:
            end = self._buf.find(b"\r\n", self._pos + rel)
            if end >= 0:
                return end - self._pos
            self._fill()

    def _frame_end(self, rel):
        """Offset (relative to `_pos`) behind the reply that starts at `rel`."""
        rel_end = self._line_end(rel)
        head = bytes(self._buf[self._pos + rel : self._pos + rel_end])
        kind, rest = head[:1], head[1:]
        after = rel_end + 2
        if kind in b"+-:_#,(":
            return after
        count = int(rest)
        if kind in b"$!=":
            if count < 0:
                return after
            need = after + count + 2
            while len(self._buf) - self._pos < need:
                self._fill()
            return need
        if kind in b"*~>%|":
            if count < 0:
                return after
            for _ in range(count * 2 if kind in b"%|" else count):
                after = self._frame_end(after)
            return after
        raise ValueError("not a RESP reply: %r" % head[:80])

    def read_raw(self):
        """The exact bytes of the next reply."""
        end = self._frame_end(0)
        raw = bytes(self._buf[self._pos : self._pos + end])
        self._pos += end
        return raw

    def read(self):
        return parse(self.read_raw())

    def read_until(self, wanted, limit=1 << 20):
        """Raw bytes up to and including `wanted`."""
        while True:
            at = self._buf.find(wanted, self._pos)
            if at >= 0:
                end = at + len(wanted)
                raw = bytes(self._buf[self._pos : end])
                self._pos = end
                return raw
            if len(self._buf) - self._pos > limit:
                raise ValueError("no %r within %d bytes" % (wanted, limit))
            self._fill()

    def read_to_end(self, timeout=10.0):
        """Everything until the other side closes (FIN or RST)."""
        deadline = time.monotonic() + timeout
        out = bytes(self._buf[self._pos :])
        self._buf.clear()
        self._pos = 0
        while True:
            self.sock.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                chunk = self.sock.recv(1 << 18)
            except ConnectionError:
                return out
            if not chunk:
                return out
            out += chunk

    def is_closed_by_peer(self, timeout=10.0):
        """True when the other side closes within `timeout`, whatever it sends before."""
        try:
            self.read_to_end(timeout)
            return True
        except (TimeoutError, socket.timeout):
            return False
        finally:
            if self.sock.fileno() >= 0:
                self.sock.settimeout(self.timeout)


def parse(raw):
    value, end = _parse(raw, 0)
    assert end == len(raw), "trailing bytes after a reply"
    return value


def _parse(raw, start):
    end = raw.index(b"\r\n", start)
    kind, rest, after = raw[start : start + 1], raw[start + 1 : end], end + 2
    if kind == b"+":
        return rest, after
    if kind == b"-":
        return ReplyError(rest.decode("latin-1")), after
    if kind == b":":
        return int(rest), after
    if kind == b"(":
        return int(rest), after
    if kind == b"_":
        return None, after
    if kind == b"#":
        return rest == b"t", after
    if kind == b",":
        return float(rest), after
    count = int(rest)
    if kind in b"$!=":
        if count < 0:
            return None, after
        body, after = raw[after : after + count], after + count + 2
        if kind == b"!":
            return ReplyError(body.decode("latin-1")), after
        return (body[4:] if kind == b"=" else body), after
    if count < 0:
        return None, after
    items = []
    for _ in range(count * 2 if kind in b"%|" else count):
        item, after = _parse(raw, after)
        items.append(item)
    if kind == b"%":
        return dict(zip(map(_hashable, items[::2]), items[1::2])), after
    if kind == b"~":
        return items, after
    if kind == b">":
        return Push(items), after
    return items, after


def _hashable(item):
    return tuple(item) if isinstance(item, list) else item


def split_array(raw):
    """The raw bytes of each element of an array reply."""
    at, parts = raw.index(b"\r\n") + 2, []
    while at < len(raw):
        end = _parse(raw, at)[1]
        parts.append(raw[at:end])
        at = end
    return parts
