"""Starts, watches and stops one node under test.

A target is one of
  - a Pinnace binary ($PINNACE, default target/release/pinnace),
  - a real Redis (--redis BINARY): shows that a test asks for what Redis does,
  - something that runs already (--target HOST:PORT): start-up and RSS tests are skipped then.
"""

import dataclasses
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time
import weakref

from .ports import free_ports
from .resp import Closed, Connection

START_SECONDS = 30
STOP_SECONDS = 20
MIB = 1 << 20


def wait_until(condition, seconds, what, every=0.02):
    """Polls `condition` until it is true; returns its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("not within %s s: %s" % (seconds, what))
        time.sleep(every)


def stop_process(process, seconds=STOP_SECONDS):
    """SIGTERM, then SIGKILL when that is not enough; returns the exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
    return process.returncode


def pinnace_command(binary, port, data_dir, options):
    command = [
        binary, "--bind", options.bind, "--port", str(port), "--peer-port", str(port + 1),
        "--http-port", str(port + 2), "--cores", str(options.cores), "--memory", options.memory,
        "--memory-policy", options.policy, "--data-dir", data_dir,
    ]
    if options.connections:
        command += ["--max-connections", str(options.connections)]
    if options.idle_seconds:
        command += ["--idle-timeout", "%ds" % options.idle_seconds]
    return command + list(options.extra)


def redis_command(binary, port, data_dir, options):
    return [
        binary, "--bind", options.bind, "--port", str(port), "--dir", data_dir, "--save", "",
        "--appendonly", "no", "--daemonize", "no", "--protected-mode", "no", "--maxmemory", options.memory,
        "--maxmemory-policy", {"evict": "allkeys-lru", "reject": "noeviction"}[options.policy],
        "--maxclients", str(options.connections or 10_000), "--timeout", str(options.idle_seconds),
    ]


@dataclasses.dataclass
class Options:
    """What a test may choose; the same for every kind of target, but for `extra` (Pinnace's flags only)."""

    cores: int = 1
    memory: str = "512mb"
    policy: str = "evict"
    bind: str = "127.0.0.1"
    connections: int = 0
    idle_seconds: int = 0
    extra: tuple = ()
    env: dict = dataclasses.field(default_factory=dict)


# What nodes said that ended by a bug: shown at the end of the run, where nobody's tail cuts it off.
last_words = []
BUG_SIGNALS = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL)


class Node:
    """One running server."""

    def __init__(self, kind, binary=None, address=None, **options):
        self.kind, self.options = kind, Options(**options)
        self.opened = weakref.WeakSet()
        self.host, self.process, self.directory, self.log_path = "127.0.0.1", None, None, None
        if address:
            host, _, port = address.rpartition(":")
            self.host, self.port = host or "127.0.0.1", int(port)
            return
        self.directory = tempfile.mkdtemp(prefix="pinnace-test-")
        self.log_path = os.path.join(self.directory, "log")
        self.data_dir = os.path.join(self.directory, "data")
        os.mkdir(self.data_dir)
        self.binary = binary
        self.port = free_ports(3)
        self.launch()

    def command(self):
        build = redis_command if self.kind == "redis" else pinnace_command
        return build(self.binary, self.port, self.data_dir, self.options)

    def launch(self):
        """Starts the process and waits until it answers; also used to start again on the same port."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PINNACE")}
        environment.setdefault("RUST_BACKTRACE", "1")
        environment.update(self.options.env)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                preexec_fn=self._limit_memory,
            )
        wait_until(self._ready, START_SECONDS, "node ready: " + " ".join(self.command()))

    def _limit_memory(self):
        """A node that loses its bounds shall fail alone, not take the machine with it."""
        limit = size_bytes(self.options.memory) + (6 << 30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    def _ready(self):
        if self.process.poll() is not None:
            raise AssertionError("node ended with %s at start:\n%s" % (self.process.returncode, self.log_tail()))
        try:
            with Connection(self.port, self.host, timeout=5) as connection:
                return connection("PING") == b"PONG"
        except (OSError, Closed):
            return False

    def connect(self, timeout=20.0, receive_buffer=None):
        connection = Connection(self.port, self.host, timeout, receive_buffer)
        self.opened.add(connection)
        return connection

    def close_all(self):
        """Closes what a failed test left open, so that it does not fail the next one too."""
        for connection in list(self.opened):
            connection.close()

    @property
    def is_pinnace(self):
        return self.kind == "pinnace"

    @property
    def pid(self):
        return self.process.pid if self.process else None

    def alive(self):
        return self.process is None or self.process.poll() is None

    def log_tail(self, lines=40):
        if not self.log_path:
            return "(external target: no log)"
        with open(self.log_path, "rb") as log:
            return "\n".join(log.read().decode("utf-8", "replace").splitlines()[-lines:])

    def stop(self):
        """Stops the node and removes its files; returns the exit code."""
        if self.process is None:
            return None
        died_of = -(self.process.poll() or 0)
        if died_of in BUG_SIGNALS:
            last_words.append("%s ended by signal %d:\n%s" % (" ".join(self.command()), died_of, self.log_tail(200)))
        code = stop_process(self.process)
        shutil.rmtree(self.directory, ignore_errors=True)
        return code

    # --- what it costs -------------------------------------------------------------------

    def rss_bytes(self):
        with open("/proc/%d/status" % self.pid) as status:
            return int(re.search(r"VmRSS:\s+(\d+) kB", status.read()).group(1)) * 1024

    def rss_peak_bytes(self):
        with open("/proc/%d/status" % self.pid) as status:
            return int(re.search(r"VmHWM:\s+(\d+) kB", status.read()).group(1)) * 1024

    def reset_rss_peak(self):
        with open("/proc/%d/clear_refs" % self.pid, "w") as clear:
            clear.write("5")

    def fd_count(self):
        return len(os.listdir("/proc/%d/fd" % self.pid))

    def cpu_seconds(self):
        with open("/proc/%d/stat" % self.pid) as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def info(self, section="everything"):
        with self.connect() as connection:
            return parse_info(connection("INFO", section))

    def connected_clients(self):
        """Clients of the node, without the one that asks."""
        return int(self.info("clients")["connected_clients"]) - 1


def parse_info(text):
    fields = {}
    for line in text.decode("utf-8", "replace").splitlines():
        name, separator, value = line.partition(":")
        if separator and not line.startswith("#"):
            fields[name] = value
    return fields


def size_bytes(text):
    """Bytes of a size such as 256mb."""
    match = re.fullmatch(r"(\d+)(kb|mb|gb)", text.lower())
    return int(match.group(1)) << {"kb": 10, "mb": 20, "gb": 30}[match.group(2)]
