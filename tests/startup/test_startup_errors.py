"""Every way in which a node refuses to start: its exit code, one clear message, what to do."""

import os
import socket
import subprocess
import sys
import tempfile

import pytest

from harness.ports import free_ports
from harness.tools import tool

CONFIG, IO_URING, MEMLOCK, LISTEN, MEMORY, CORES, DATA_DIR, OPEN_FILES = 2, 10, 11, 12, 13, 14, 15, 16
LIMITS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "limits.py")


@pytest.fixture
def refusal(pinnace_only, tmp_path):
    """Runs the binary, which must end by itself: (exit code, what it said)."""

    def run(*arguments, before=(), env=None, ports=True):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PINNACE")}
        environment.update(env or {})
        first = free_ports(3)
        given = ["--port", str(first), "--peer-port", str(first + 1), "--http-port", str(first + 2)] if ports else []
        done = subprocess.run(
            [*before, pinnace_only, *given, *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL,
        )
        said = done.stderr + done.stdout
        assert "panicked" not in said and "RUST_BACKTRACE" not in said, said
        return done.returncode, said

    return run


def test_port_in_use(refusal):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        code, said = refusal("--port", str(port), "--memory", "64mb", "--peer-port", "12001", "--http-port", "12002", ports=False)
    assert code == LISTEN and str(port) in said and "in use" in said and "--port" in said, said


def test_port_in_use_by_another_node(refusal, start):
    """Two nodes on one port would share it silently, since cores listen with SO_REUSEPORT."""
    node = start()
    code, said = refusal("--port", str(node.port), "--memory", "64mb", "--peer-port", "12001", "--http-port", "12002", ports=False)
    assert code == LISTEN and "in use" in said, said
    with node.connect() as connection:
        assert connection("PING") == b"PONG"


def test_core_port_in_use(refusal):
    base = free_ports(2)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", base))
        holder.listen()
        code, said = refusal("--core-ports", str(base), "--memory", "64mb")
    assert code == LISTEN and str(base) in said, said


def test_address_of_another_host(refusal):
    code, said = refusal("--bind", "192.0.2.1", "--memory", "64mb")
    assert code == LISTEN and "192.0.2.1" in said, said


@pytest.mark.parametrize("arguments,named", [
    (["--prot", "7700"], "--prot"),
    (["--port", "70000"], "70000"),
    (["--port", "0"], "port"),
    (["--memory", "lots"], "lots"),
    (["--memory", "12xb"], "12xb"),
    (["--memory=-5mb"], "-5mb"),
    (["--cores", "zero"], "zero"),
    (["--cores", "0"], "0"),
    (["--durability", "maybe"], "maybe"),
    (["--wal-segment-size", "100k"], "wal_segment_size"),
    (["--wal-sync-interval", "0"], "wal_sync_interval"),
    (["--wal-replay"], "--durability"),
    (["--memory-policy", "drop"], "drop"),
    (["--bind", "nowhere"], "nowhere"),
    (["--idle-timeout", "5 parsecs"], "parsecs"),
    (["--busy-poll", "1h"], "busy"),
    (["--segment-size", "300000"], "power of two"),
    (["--max-key-size", "1mb"], "max_key_size"),
    (["--shards", "0"], "shards"),
    (["--config", "nosuch.toml"], "nosuch.toml"),
    (["surplus"], "surplus"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_wrong_flags(refusal, arguments, named):
    code, said = refusal(*arguments, ports="--port" not in arguments)
    said_plain = said.replace("-", "_")
    assert code == CONFIG and named.replace("-", "_") in said_plain, (code, said)


@pytest.mark.parametrize("text,named", [
    ("prot = 7700", "prot"),
    ("port = 'seven'", "port"),
    ("port = 99999999", "port"),
    ("memory = '12 parsecs'", "memory"),
    ("[section]\nport = 1", "section"),
    ("port = = 1", "line 1"),
], ids=lambda value: repr(value)[:30])
def test_wrong_configuration_file(refusal, tmp_path, text, named):
    path = tmp_path / "node.toml"
    path.write_text(text)
    code, said = refusal("--config", str(path), ports=False)
    assert code == CONFIG and named in said and "node.toml" in said, (code, said)


def test_nearest_key_is_named(refusal, tmp_path):
    path = tmp_path / "node.toml"
    path.write_text("memroy = '64mb'")
    code, said = refusal("--config", str(path), ports=False)
    assert code == CONFIG and "memroy" in said and "did you mean memory" in said, said


@pytest.mark.parametrize("name,value", [("PINNACE_PROT", "7700"), ("PINNACE_PORT", "x"), ("PINNACE_MEMORY", "x")])
def test_wrong_variables(refusal, name, value):
    code, said = refusal(env={name: value}, ports=False)
    assert code == CONFIG and name in said.upper().replace("-", "_"), said


def test_memory_larger_than_there_is(refusal):
    code, said = refusal("--memory", "100000gb")
    assert code == MEMORY and "--memory" in said, said


def test_memory_too_small(refusal):
    code, said = refusal("--memory", "1mb", "--cores", "1")
    assert code == MEMORY and "--memory" in said and "1 MiB" in said, said


def test_cores_that_are_not_there(refusal):
    for cores in ("5000", "4000,4001"):
        code, said = refusal("--cores", cores, "--memory", "64mb")
        assert code == CORES and "--cores" in said, said


def test_cores_outside_of_the_affinity(refusal):
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("one CPU")
    code, said = refusal("--cores", "2", "--memory", "64mb", before=["taskset", "-c", str(cpus[1])])
    assert code == CORES and "taskset" in said, said


def test_data_directory_that_cannot_be_made(refusal):
    code, said = refusal("--data-dir", "/proc/nowhere", "--memory", "64mb")
    assert code == DATA_DIR and "/proc/nowhere" in said, said


@pytest.mark.parametrize("restriction", ["no-uring", "old-kernel"])
def test_io_uring_blocked(refusal, restriction):
    code, said = refusal("--memory", "64mb", before=[sys.executable, LIMITS, restriction, "--"])
    assert code == IO_URING and "io_uring" in said, said
    assert ("seccomp" in said) == (restriction == "no-uring"), said


def as_nobody():
    if os.geteuid():
        return []
    return [tool("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]


@pytest.fixture
def reachable_binary(pinnace_only):
    """A copy that any user may run: the build may lie below a directory that is closed to others."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        path = os.path.join(folder, "pinnace")
        with open(pinnace_only, "rb") as source, open(path, "wb") as target:
            target.write(source.read())
        os.chmod(path, 0o755)
        yield path


def test_locked_memory_too_small(reachable_binary):
    """Only root or CAP_IPC_LOCK is free of the limit."""
    first = free_ports(3)
    done = subprocess.run(
        [tool("prlimit"), "--memlock=65536:65536", *as_nobody(), reachable_binary, "--memory", "64mb", "--port", str(first),
         "--peer-port", str(first + 1), "--http-port", str(first + 2), "--cores", "1"],
        cwd="/tmp", capture_output=True, text=True, timeout=20,
    )
    said = done.stderr + done.stdout
    assert done.returncode == MEMLOCK and "65536" in said and "ulimit -l" in said, (done.returncode, said)


def test_open_files_too_few(reachable_binary):
    first = free_ports(3)
    done = subprocess.run(
        [tool("prlimit"), "--nofile=64:64", *as_nobody(), reachable_binary, "--memory", "64mb", "--port", str(first), "--peer-port",
         str(first + 1), "--http-port", str(first + 2), "--max-connections", "10000", "--cores", "1"],
        cwd="/tmp", capture_output=True, text=True, timeout=20,
    )
    said = done.stderr + done.stdout
    assert done.returncode == OPEN_FILES and "64" in said and "ulimit -n" in said, (done.returncode, said)


def test_help_and_version(refusal):
    code, said = refusal("--help", ports=False)
    assert code == 0
    for flag in ("--config", "--bind", "--port", "--peer-port", "--http-port", "--cores", "--memory", "--data-dir",
                 "--durability", "--core-ports"):
        assert flag in said, flag
    code, said = refusal("--version", ports=False)
    assert code == 0 and said.startswith("pinnace ")
