"""Starting, configuring, stopping and starting again."""

import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from harness.node import START_SECONDS, wait_until
from harness.ports import free_ports
from harness.resp import Closed, Connection, encode
from harness.tools import tool


def banner(node):
    """A core may answer before the banner is written."""
    return wait_until(lambda: "redis-cli" in node.log_tail() and node.log_tail(), START_SECONDS, "a banner")


def test_banner(pinnace_only, start):
    node = start(cores=1, memory="128mb")
    said = banner(node)
    assert re.search(r"[Pp]innace v?\d+\.\d+\.\d+", said), said
    for part in (str(node.port), "128", node.data_dir, "none", "redis-cli"):
        assert part in said, "%s is not in the banner:\n%s" % (part, said)
    assert len(said.splitlines()) <= 20, said


def test_line_of_the_banner_works(pinnace_only, start):
    """The banner tells a line to try; it must be true."""
    node = start()
    line = re.search(r"redis-cli[^\n`'\"]*-p \d+[^\n`'\"]*", banner(node)).group(0).split("  ")[0].split()
    tool("redis-cli")
    done = subprocess.run(line, capture_output=True, text=True, timeout=20, input="")
    assert done.returncode == 0 and "rror" not in done.stdout + done.stderr, done


def test_file_variables_and_flags(pinnace_only, tmp_path):
    """Flags win over variables, variables over the file."""
    ports = free_ports(9)
    path = tmp_path / "node.toml"
    path.write_text(
        "port = %d\npeer_port = %d\nhttp_port = %d\nmemory = '64mb'\ncores = 1\n" % (ports, ports + 1, ports + 2)
    )

    def port_of(arguments, env):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PINNACE")}
        process = subprocess.Popen([pinnace_only, *arguments], env={**environment, **env}, cwd=tmp_path,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return wait_until(lambda: next((p for p in range(ports, ports + 9) if answers(p)), 0), START_SECONDS, "a port answers")
        finally:
            process.terminate()
            assert process.wait(20) == 0

    assert port_of(["--config", str(path)], {}) == ports
    assert port_of([], {"PINNACE_CONFIG": str(path)}) == ports
    assert port_of(["--config", str(path)], {"PINNACE_PORT": str(ports + 4)}) == ports + 4
    assert port_of(["--config", str(path), "--port", str(ports + 5)], {"PINNACE_PORT": str(ports + 4)}) == ports + 5


def answers(port):
    try:
        with Connection(port, timeout=2) as connection:
            return connection("PING") == b"PONG"
    except (OSError, Closed):
        return False


def test_settings_reach_the_node(pinnace_only, start):
    node = start(memory="200mb", connections=123, idle_seconds=77, policy="reject")
    with node.connect() as connection:
        assert connection("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"%d" % (200 << 20)]
        assert connection("CONFIG", "GET", "maxclients") == [b"maxclients", b"123"]
        assert connection("CONFIG", "GET", "timeout") == [b"timeout", b"77"]
        assert connection("CONFIG", "GET", "maxmemory-policy") == [b"maxmemory-policy", b"noeviction"]


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_clean_stop_under_load(pinnace_only, start, cores, sent):
    """Within seconds, code 0; every reply that came is right, then the connections are closed."""
    node = start(cores=cores)
    outcomes, started = [], threading.Barrier(9)

    def load(worker):
        done = 0
        try:
            with Connection(node.port, timeout=20) as connection:
                started.wait(20)
                while True:
                    answers = connection.pipeline([("SET", "s:%d:%d" % (worker, i), done) for i in range(50)])
                    assert answers == [b"OK"] * 50
                    done += 1
        except (Closed, ConnectionError):
            outcomes.append(done)
        except BaseException as error:
            outcomes.append(error)

    threads = [threading.Thread(target=load, args=(worker,), daemon=True) for worker in range(8)]
    for thread in threads:
        thread.start()
    idle = node.connect()
    started.wait(20)
    wait_until(lambda: int(node.info("stats")["total_commands_processed"]) > 5000, 20, "load")
    at = time.monotonic()
    node.process.send_signal(sent)
    assert node.process.wait(15) == 0, node.log_tail()
    assert time.monotonic() - at < 8
    for thread in threads:
        thread.join(20)
    assert len(outcomes) == 8 and all(isinstance(done, int) and done > 0 for done in outcomes), outcomes
    assert idle.is_closed_by_peer()


def test_stop_does_not_wait_for_those_who_never_read(pinnace_only, start):
    node = start()
    with node.connect() as connection:
        connection("SET", "big", b"x" * 1_000_000)
    lazy = [node.connect(receive_buffer=4096) for _ in range(10)]
    for connection in lazy:
        connection.send(encode("GET", "big") * 100)
    at = time.monotonic()
    node.process.terminate()
    assert node.process.wait(15) == 0
    assert time.monotonic() - at < 8
    node.close_all()


@pytest.mark.parametrize("cores", [1, 2])
def test_restart_on_the_same_port_at_once(start, targets, cores):
    """Also with clients connected: their ports' TIME_WAIT must not be in the way."""
    if targets.address or (cores == 2 and targets.redis):
        pytest.skip("not for this target")
    node = start(cores=cores)
    for round_ in range(3):
        crowd = [node.connect() for _ in range(20)]
        for connection in crowd:
            assert connection("SET", "round", round_) == b"OK"
        node.process.terminate()
        assert node.process.wait(15) == 0
        node.launch()
        with node.connect() as connection:
            assert connection("EXISTS", "round") == 0, "nothing is kept without a log"
        node.close_all()


def test_restart_after_a_kill(start, targets):
    if targets.address:
        pytest.skip("not for this target")
    node = start()
    crowd = [node.connect() for _ in range(20)]
    assert all(connection("PING") == b"PONG" for connection in crowd)
    node.process.kill()
    node.process.wait(10)
    node.launch()
    node.close_all()


def test_shutdown_command(start, targets):
    if targets.address:
        pytest.skip("not for this target")
    node = start()
    with node.connect() as connection:
        connection.send_command("SHUTDOWN", "NOSAVE")
        assert connection.is_closed_by_peer()
    assert node.process.wait(15) == 0


def test_idle_node_uses_next_to_no_cpu(pinnace_only, start):
    """Busy polling ends when there is nothing to do; connections that are merely open cost nothing."""
    node = start(cores=1)
    crowd = [node.connect() for _ in range(200)]
    assert all(connection("PING") == b"PONG" for connection in crowd)
    with node.connect() as connection:
        connection.pipeline([("SET", "idle:%d" % i, "x" * 100) for i in range(10_000)])
    begin, at = node.cpu_seconds(), time.monotonic()
    # Measuring a span of time needs one: this waits, it does not guess at readiness.
    wait_until(lambda: time.monotonic() - at > 3, 10, "three seconds")
    share = (node.cpu_seconds() - begin) / (time.monotonic() - at)
    assert share < 0.05, "%.1f %% of one core" % (100 * share)
    node.close_all()


def test_pinned_to_one_cpu(pinnace_only):
    """Without --cores a node takes the CPUs of its affinity mask, no more."""
    first = free_ports(3)
    cpu = sorted(os.sched_getaffinity(0))[-1]
    process = subprocess.Popen(
        ["taskset", "-c", str(cpu), pinnace_only, "--port", str(first), "--peer-port", str(first + 1), "--http-port",
         str(first + 2), "--memory", "64mb"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/tmp",
    )
    try:
        wait_until(lambda: answers(first), START_SECONDS, "node ready")
        assert os.sched_getaffinity(process.pid) == {cpu}
        with socket.create_connection(("127.0.0.1", first)) as sock:
            sock.sendall(encode("INFO", "server"))
            assert sock.recv(65536)
    finally:
        process.terminate()
        assert process.wait(20) == 0
