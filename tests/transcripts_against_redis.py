#!/usr/bin/env python3
"""Replays core/testdata/*.resp against a real redis-server, which is where their replies come from.

    tests/transcripts_against_redis.py                      compare with the redis-server of PATH
    tests/transcripts_against_redis.py --server ./my-redis  compare with another one
    tests/transcripts_against_redis.py --write FILE...      write its replies into the files

The format, which core/tests/transcripts.rs reads as well:

    # text             a comment
    > SET key "a b"    a request; quoted arguments know \\r \\n \\t \\" \\\\ \\xNN
    < +OK              a line of the expected reply, its CR LF left out; bytes escaped as above
    <in 90 100         instead of reply lines: an integer within these bounds
    <sorted            before reply lines: the elements of the array may come in any order
    @flush             delete all keys (also done at the start of a file)
    @resp 3            speak RESP3 (2: RESP2, as at the start of a file)
    @wait 20           let so many milliseconds pass
    @since 7.2         the next reply is that of Redis from this version on
    @before 7.4        the next reply is that of Redis before this version
    @own why           the next reply is not Redis' own, for this reason
"""
import argparse
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIMPLE = {"r": b"\r", "n": b"\n", "t": b"\t", '"': b'"', "\\": b"\\"}


def unescape(text):
    out, i = b"", 0
    while i < len(text):
        if text[i] != "\\":
            out, i = out + text[i].encode(), i + 1
        elif text[i + 1] == "x":
            out, i = out + bytes.fromhex(text[i + 2 : i + 4]), i + 4
        else:
            out, i = out + SIMPLE[text[i + 1]], i + 2
    return out


def escape(data):
    named = {13: "\\r", 10: "\\n", 9: "\\t", 92: "\\\\"}
    return "".join(named.get(b) or (chr(b) if 32 <= b < 127 else f"\\x{b:02x}") for b in data)


def arguments(line):
    args, i = [], 0
    while i < len(line):
        if line[i] == " ":
            i += 1
        elif line[i] == '"':
            end = i + 1
            while line[end] != '"':
                end += 2 if line[end] == "\\" else 1
            args.append(unescape(line[i + 1 : end]))
            i = end + 1
        else:
            end = line.find(" ", i)
            end = len(line) if end < 0 else end
            args.append(line[i:end].encode())
            i = end
    return args


class Connection:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.file = self.socket.makefile("rb")

    def call(self, args):
        head = b"*%d\r\n" % len(args)
        self.socket.sendall(head + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in args))
        return self.value()

    def value(self):
        """One reply as a list of its top-level elements, each as the lines it consists of."""
        line = self.file.readline()[:-2]
        kind, count = line[:1], line[1:]
        if kind in b"$=" and count != b"-1":
            return [line, self.file.read(int(count) + 2)[:-2]]
        if kind in b"*~%>" and count != b"-1":
            items = int(count) * (2 if kind == b"%" else 1)
            return [line] + [part for _ in range(items) for part in self.value()]
        return [line]


def elements(lines):
    """The elements of an array of bulk strings or one-line values, to be compared in any order."""
    rest, found = lines[1:], []
    while rest:
        size = 2 if rest[0][:1] == b"$" and rest[0] != b"$-1" else 1
        found.append(tuple(rest[:size]))
        rest = rest[size:]
    return lines[:1] + sorted(found)


def version_of(text):
    return tuple(int(part) for part in text.split(".")[:2])


def agrees(rule, expected, got):
    if rule.startswith("in "):
        low, high = (int(bound) for bound in rule.split()[1:])
        return got[0][:1] == b":" and low <= int(got[0][1:]) <= high
    if rule == "sorted":
        return elements(expected) == elements(got)
    return expected == got


def replay(path, connection, version, write):
    """Runs a file; gives the number of requests compared and the failures, and the file rewritten."""
    lines = path.read_text().splitlines()
    connection.call([b"FLUSHALL"])
    connection.call([b"HELLO", b"2"])
    output, failures, compared, i = [], [], 0, 0
    comparable = True
    while i < len(lines):
        line = lines[i]
        output.append(line)
        i += 1
        word, _, rest = line.partition(" ")
        if word == "@flush":
            connection.call([b"FLUSHALL"])
        elif word == "@resp":
            connection.call([b"HELLO", rest.encode()])
        elif word == "@wait":
            time.sleep(int(rest) / 1000)
        elif word == "@since":
            comparable = version >= version_of(rest)
        elif word == "@before":
            comparable = version < version_of(rest)
        elif word == "@own":
            comparable = False
        elif word == ">":
            rule, expected, at = "", [], i
            while i < len(lines) and lines[i].startswith("<"):
                if lines[i].startswith("< "):
                    expected.append(unescape(lines[i][2:]))
                else:
                    rule = lines[i][1:]
                i += 1
            got = connection.call(arguments(rest))
            if comparable and write and not rule.startswith("in "):
                output += ["<sorted"] * (rule == "sorted") + ["< " + escape(part) for part in got]
            else:
                output += lines[at:i]
            if comparable:
                compared += 1
                if not agrees(rule, expected, got):
                    failures.append((at, line, expected, got))
            comparable = True
    return compared, failures, "\n".join(output) + "\n"


def start(server):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    directory = tempfile.mkdtemp(prefix="transcripts-")
    command = [server, "--port", str(port), "--save", "", "--appendonly", "no", "--dir", directory]
    process = subprocess.Popen(command + ["--maxmemory-policy", "allkeys-lfu"], stdout=subprocess.DEVNULL)
    for _ in range(200):
        try:
            return process, Connection(port), directory
        except OSError:
            time.sleep(0.02)
    process.kill()
    sys.exit(f"{server} does not answer on port {port}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="redis-server", help="the redis-server to ask")
    parser.add_argument("--write", action="store_true", help="write the replies into the files")
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    options = parser.parse_args()
    files = options.files or sorted((ROOT / "core" / "testdata").glob("*.resp"))
    process, connection, directory = start(options.server)
    try:
        info = connection.call([b"INFO", b"server"])[1].decode()
        version = version_of(info.split("redis_version:")[1].split("\r")[0])
        failed = 0
        for path in files:
            compared, failures, text = replay(path, connection, version, options.write)
            if options.write:
                path.write_text(text)
            else:
                failed += len(failures)
                for at, request, expected, got in failures:
                    print(f"{path.name}:{at}: {request}\n  file:  {expected}\n  redis: {got}")
            print(f"{path.name}: {compared} replies compared, {0 if options.write else len(failures)} differ")
        return 1 if failed else 0
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
