"""Many connections: idle ten thousand, slow senders, churn, clients that vanish."""

import os
import random
import resource
import socket
import subprocess
import sys
import threading
import time

import pytest

from harness.node import wait_until
from harness.resp import ReplyError, encode
from harness.tools import missing

CROWD = 10_000


def test_slow_senders(guard):
    """One byte at a time on many connections at once."""
    request = encode("ECHO", "slow but fine")
    with guard.probe() as probe:
        crowd = [guard.node.connect() for _ in range(300)]
        for at in range(len(request)):
            for connection in crowd:
                connection.send(request[at : at + 1])
        for connection in crowd:
            assert connection.read() == b"slow but fine"
            connection.close()
    probe.check()


@pytest.fixture
def descriptors():
    """Enough descriptors for the test's own side."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CROWD + 500
    if hard != resource.RLIM_INFINITY and hard < wanted:
        missing("a limit of %d open files" % wanted, "it is %d (ulimit -Hn)" % hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_crowd(node, count):
    sockets = []
    for _ in range(count):
        sock = socket.create_connection((node.host, node.port), timeout=20)
        sockets.append(sock)
    return sockets


@pytest.mark.timeout(180)
@pytest.mark.parametrize("cores", [1, 2])
def test_ten_thousand_connections(start, guard_of, descriptors, targets, cores):
    if cores == 2 and targets.redis:
        pytest.skip("this target has no cores to choose")
    node = start(cores=cores, connections=CROWD + 50)
    guard = guard_of(node)
    with guard.probe() as probe:
        crowd = open_crowd(node, CROWD)
        try:
            wait_until(lambda: node.connected_clients() >= CROWD, 60, "all accepted")
            for round_ in range(3):
                for number, sock in enumerate(crowd):
                    sock.sendall(encode("SET", "crowd:%d" % number, "%d:%d" % (round_, number)) +
                                 encode("GET", "crowd:%d" % number))
                for number, sock in enumerate(crowd):
                    value = b"%d:%d" % (round_, number)
                    expected = b"+OK\r\n$%d\r\n%b\r\n" % (len(value), value)
                    received = b""
                    while len(received) < len(expected):
                        chunk = sock.recv(4096)
                        assert chunk, "closed"
                        received += chunk
                    assert received == expected
        finally:
            for sock in crowd:
                sock.close()
    probe.check(bound_seconds=10)
    guard.check()


def test_one_connection_too_many(start, guard_of):
    node = start(connections=20)
    guard = guard_of(node)
    crowd = [node.connect() for _ in range(20)]
    for connection in crowd:
        assert connection("PING") == b"PONG"
    with node.connect() as refused:
        error = refused.read()
        assert isinstance(error, ReplyError) and str(error) == "ERR max number of clients reached"
        assert refused.is_closed_by_peer()
    crowd.pop().close()
    wait_until(lambda: admitted(node), 10, "a place is free again")
    for connection in crowd:
        connection.close()
    guard.check()


def admitted(node):
    with node.connect() as connection:
        try:
            return connection("PING") == b"PONG"
        except Exception:
            return False


@pytest.mark.timeout(120)
def test_churn(guard):
    """Connections come and go in every way there is, some with requests under way."""
    stop = time.monotonic() + 8
    counts, errors = [0] * 4, []

    def churn(worker):
        draw = random.Random(worker)
        try:
            while time.monotonic() < stop:
                connection = guard.node.connect()
                way = draw.randrange(6)
                if way == 0:
                    assert connection("PING") == b"PONG"
                elif way == 1:
                    connection.send(encode("GET", "a") * 50)
                elif way == 2:
                    connection.send(b"*2\r\n$3\r\nGE")
                elif way == 3:
                    connection.send(encode("MULTI") + encode("SUBSCRIBE", "c"))
                elif way == 4:
                    connection.send(encode("SUBSCRIBE", "churn"))
                # A reset leaves no port behind in TIME_WAIT; without it a machine runs out of them.
                if draw.randrange(20):
                    connection.reset()
                else:
                    connection.close()
                counts[worker] += 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=churn, args=(worker,), daemon=True) for worker in range(4)]
    with guard.probe() as probe:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert not errors, errors[0]
    assert sum(counts) > 1000, counts
    probe.check()
    with guard.node.connect() as connection:
        assert connection("PUBSUB", "NUMSUB", "churn") == [b"churn", 0]


def test_idle_timeout(start, guard_of):
    node = start(idle_seconds=1)
    guard = guard_of(node)
    idle, subscriber = node.connect(), node.connect()
    subscriber("SUBSCRIBE", "quiet")
    assert idle("PING") == b"PONG"
    assert idle.is_closed_by_peer(15), "an idle client is closed"
    with node.connect() as publisher:
        assert publisher("PUBLISH", "quiet", "m") == 1, "a subscriber may be silent"
    subscriber.close()
    guard.check()


# Runs inside the namespace: opens connections of three kinds, then says so and waits.
VANISHING = """
import socket, sys, time
host, port = sys.argv[1], int(sys.argv[2])
socks = []
for number in range(60):
    sock = socket.create_connection((host, port), timeout=20)
    kind = number % 3
    if kind == 0:
        sock.sendall(b"PING\\r\\n"); sock.recv(100)
    elif kind == 1:
        sock.sendall(b"*3\\r\\n$3\\r\\nSET\\r\\n$4\\r\\nhalf\\r\\n$1000\\r\\nabc")
    else:
        sock.sendall(b"*2\\r\\n$3\\r\\nGET\\r\\n$3\\r\\nbig\\r\\n" * 20)
    socks.append(sock)
print("ready", flush=True)
time.sleep(300)
"""


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=20)


@pytest.fixture
def island():
    """A network namespace behind a veth pair: its address, and how to cut the cable."""
    name, inside, outside = "pn%d" % os.getpid(), "pni%d" % os.getpid(), "pno%d" % os.getpid()
    subnet = "10.%d.%d" % (200 + os.getpid() // 250 % 50, os.getpid() % 250)
    steps = [
        ["ip", "netns", "add", name],
        ["ip", "link", "add", outside, "type", "veth", "peer", "name", inside, "netns", name],
        ["ip", "addr", "add", subnet + ".1/24", "dev", outside],
        ["ip", "link", "set", outside, "up"],
        ["ip", "-n", name, "addr", "add", subnet + ".2/24", "dev", inside],
        ["ip", "-n", name, "link", "set", inside, "up"],
    ]
    try:
        for step in steps:
            done = run(*step)
            if done.returncode:
                pytest.skip("no network namespaces here: %s" % done.stderr.strip())
        yield name, subnet + ".1", inside
    finally:
        run("ip", "link", "del", outside)
        run("ip", "netns", "del", name)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("cores", [1, 2])
def test_clients_that_vanish_without_a_word(start, guard_of, island, targets, cores):
    """The cable is cut: no FIN, no RST, acknowledgements stop. The idle timeout clears them away."""
    if cores == 2 and targets.redis:
        pytest.skip("this target has no cores to choose")
    name, address, inside = island
    node = start(cores=cores, bind="0.0.0.0", idle_seconds=3)
    guard = guard_of(node)
    with node.connect() as connection:
        connection("SET", "big", "x" * 200_000)
    client = subprocess.Popen(
        ["ip", "netns", "exec", name, sys.executable, "-c", VANISHING, address, str(node.port)],
        stdout=subprocess.PIPE, text=True,
    )
    try:
        with guard.probe() as probe:
            assert client.stdout.readline() == "ready\n"
            assert node.connected_clients() >= 60
            assert run("ip", "-n", name, "link", "set", inside, "down").returncode == 0
            wait_until(lambda: node.connected_clients() <= 1, 40, "vanished clients are closed", every=0.2)
        probe.check()
    finally:
        client.kill()
        client.wait(10)
        client.stdout.close()
    guard.check()
