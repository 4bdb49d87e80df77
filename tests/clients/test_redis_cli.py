"""redis-cli and plain sockets: mass insertion, scans, statistics modes, RESP3, inline commands."""

import re
import subprocess

import pytest

from harness.resp import encode
from harness.tools import tool


def cli(node, *arguments, data=None, seconds=40):
    done = subprocess.run(
        [tool("redis-cli"), "-h", node.host, "-p", str(node.port), *arguments],
        input=data, capture_output=True, timeout=seconds,
    )
    return done.stdout.decode("utf-8", "replace") + done.stderr.decode("utf-8", "replace")


def cli_for(node, seconds, *arguments):
    """Modes that never end by themselves: what they print until they are interrupted."""
    process = subprocess.Popen(
        ["timeout", "--signal=INT", str(seconds), "stdbuf", "-oL", tool("redis-cli"), "-h", node.host, "-p", str(node.port), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    output, _ = process.communicate(timeout=seconds + 20)
    return output.decode("utf-8", "replace")


def test_single_commands(clean):
    assert cli(clean, "SET", "k", "v") == "OK\n"
    assert cli(clean, "GET", "k") == "v\n"
    assert cli(clean, "--no-raw", "GET", "absent") == "(nil)\n"
    assert cli(clean, "--no-raw", "INCR", "n") == "(integer) 1\n"
    assert cli(clean, "--no-raw", "MGET", "k", "absent") == '1) "v"\n2) (nil)\n'
    assert cli(clean, "GET").startswith("ERR wrong number of arguments for 'get' command")
    assert cli(clean, "-x", "SET", "stdin", data=b"\0\r\n\xff") == "OK\n"
    assert cli(clean, "--no-raw", "GET", "stdin") == '"\\x00\\r\\n\\xff"\n'


def test_commands_from_standard_input(clean):
    script = b"".join(b"SET in:%d %d\n" % (i, i) for i in range(200)) + b"DBSIZE\n"
    assert cli(clean, data=script).split("\n")[-2] == "200"


def test_resp3(clean):
    assert cli(clean, "-3", "--no-raw", "HELLO").count("=> ") >= 7
    assert cli(clean, "-3", "--no-raw", "GET", "absent") == "(nil)\n"
    assert '"maxmemory"' in cli(clean, "-3", "--no-raw", "CONFIG", "GET", "maxmemory")


def test_repeat_and_interval(clean):
    assert cli(clean, "-r", "100", "INCR", "n").splitlines()[-1] == "100"


def test_mass_insertion(clean):
    data = b"".join(encode("SET", "mass:%d" % i, "value-%d" % i) for i in range(50_000))
    output = cli(clean, "--pipe", data=data)
    assert "errors: 0, replies: 50000" in output
    assert cli(clean, "DBSIZE") == "50000\n"
    assert cli(clean, "GET", "mass:49999") == "value-49999\n"
    output = cli(clean, "--pipe", data=encode("SET", "a") + encode("SET", "b", "1"))
    assert "errors: 1, replies: 2" in output


def test_scan_mode(clean):
    with clean.connect() as connection:
        connection.pipeline([("SET", "scan:%d" % i, i) for i in range(2000)])
    assert len(set(cli(clean, "--scan").split())) == 2000
    assert len(set(cli(clean, "--scan", "--pattern", "scan:19?").split())) == 10


def test_bigkeys_and_memkeys(clean):
    with clean.connect() as connection:
        connection.pipeline([("SET", "big:%d" % i, "x" * i) for i in range(1, 500)])
    output = cli(clean, "--bigkeys")
    assert re.search(r"Biggest string found .*big:499.* has 499 bytes", output), output[-800:]
    assert "499 strings with 124750 bytes" in output
    assert "Sampled 499 keys" in cli(clean, "--memkeys")


def test_latency_and_stat_modes(clean):
    # Without a terminal it measures for one interval, prints "min max avg count" and ends.
    measured = cli(clean, "--latency", "--raw", "-i", "1")
    assert re.fullmatch(r"\d+ \d+ \d+\.\d+ \d+\n", measured), measured
    stat = cli_for(clean, 2, "--stat", "-i", "0.2")
    assert "keys" in stat and "clients" in stat and re.search(r"\n\d+ +\S+ +\d+ ", stat), stat


def test_latency_history_and_intrinsic_commands(clean):
    assert cli(clean, "LATENCY", "LATEST").strip() == ""
    assert "OK" in cli(clean, "CONFIG", "RESETSTAT")


def test_documentation_at_startup(clean):
    """An interactive redis-cli asks for COMMAND DOCS when it starts; its hints come from there."""
    output = cli(clean, "--no-raw", "COMMAND", "DOCS", "GET", "set")
    assert '"summary"' in output and '"get"' in output and '"set"' in output and "string value" in output
    assert cli(clean, "--json", "COMMAND", "DOCS", "SET").startswith("{")
    assert int(cli(clean, "COMMAND", "COUNT")) >= 90


def test_monitor(clean):
    process = subprocess.Popen(
        ["timeout", "20", tool("redis-cli"), "-h", clean.host, "-p", str(clean.port), "MONITOR"],
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout.readline() == b"OK\n"
        with clean.connect() as connection:
            connection("SET", "seen", b"\x01\"")
            line = process.stdout.readline().decode()
            assert re.fullmatch(r'\d+\.\d{6} \[0 127\.0\.0\.1:\d+\] "SET" "seen" "\\x01\\""\n', line), line
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def test_subscribe_mode(clean):
    process = subprocess.Popen(
        ["timeout", "20", tool("redis-cli"), "-h", clean.host, "-p", str(clean.port), "SUBSCRIBE", "cli"],
        stdout=subprocess.PIPE,
    )
    try:
        first = [process.stdout.readline().strip() for _ in range(3)]
        assert first == [b"subscribe", b"cli", b"1"]
        with clean.connect() as connection:
            assert connection("PUBLISH", "cli", "hi") == 1
        assert [process.stdout.readline().strip() for _ in range(3)] == [b"message", b"cli", b"hi"]
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@pytest.mark.parametrize("end", [b"\r\n", b"\n"], ids=["crlf", "lf"])
def test_inline_commands(clean, end):
    with clean.connect() as connection:
        connection.send(end.join([
            b"PING", b'SET in "a b\\x00\\n"', b"GET in", b"", b"   ", b"  EXISTS   in  in ", b"SET q 'it\\'s'", b"GET q", b"",
        ]))
        assert [connection.read() for _ in range(6)] == [b"PONG", b"OK", b"a b\0\n", 2, b"OK", b"it's"]
        connection.send(b'SET broken "open quote' + end)
        assert "unbalanced quotes" in str(connection.read())
        assert connection.is_closed_by_peer()


def test_inline_and_arrays_mixed_in_one_packet(clean):
    with clean.connect() as connection:
        connection.send(b"PING\r\n" + encode("SET", "x", "1") + b"INCR x\n" + encode("GET", "x") + b"\r\n" + encode("PING"))
        assert [connection.read() for _ in range(5)] == [b"PONG", b"OK", 2, b"2", b"PONG"]


def test_http_request_is_refused(clean):
    """As Redis does, against cross-protocol scripting: a `POST` or `Host:` line closes the connection."""
    with clean.connect() as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nSET pwned 1\r\n\r\n")
        assert connection.is_closed_by_peer()
    with clean.connect() as connection:
        assert connection("EXISTS", "pwned") == 0
