"""redis-py, synchronous, RESP2 and RESP3."""

import os
import threading
import time

import pytest
import redis

from harness.node import MIB, wait_until

ALL_BYTES = bytes(range(256))


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def protocol(request):
    return request.param


@pytest.fixture
def client(clean, protocol):
    client = redis.Redis(clean.host, clean.port, protocol=protocol, socket_timeout=30)
    yield client
    client.close()


def test_strings(client):
    assert client.set("k", "v") is True
    assert client.get("k") == b"v"
    assert client.get("absent") is None
    assert client.set("k", "w", nx=True) is None
    assert client.set("k", "w", xx=True, get=True) == b"v"
    assert client.getset("k", "x") == b"w"
    assert client.append("k", "yz") == 3
    assert client.strlen("k") == 3
    assert client.getrange("k", 1, -1) == b"yz"
    assert client.setrange("k", 5, "!") == 6
    assert client.get("k") == b"xyz\0\0!"
    assert client.getdel("k") == b"xyz\0\0!"
    assert client.exists("k") == 0
    assert client.mset({"a": 1, "b": 2}) is True
    assert client.msetnx({"b": 3, "c": 3}) is False
    assert client.mget("a", "b", "c") == [b"1", b"2", None]
    assert client.delete("a", "b", "c") == 2
    with pytest.raises(redis.ResponseError, match="wrong number of arguments for 'get' command"):
        client.execute_command("GET")
    with pytest.raises(redis.ResponseError, match="unknown command 'NOSUCH', with args beginning with: 'x' "):
        client.execute_command("NOSUCH", "x")


def test_numbers_and_bits(client):
    assert client.incr("n") == 1
    assert client.incrby("n", 41) == 42
    assert client.decr("n", 2) == 40
    assert client.incrbyfloat("n", 0.5) == 40.5
    with pytest.raises(redis.ResponseError, match="value is not an integer or out of range"):
        client.incr("n")
    assert client.setbit("b", 7, 1) == 0
    assert client.getbit("b", 7) == 1
    assert client.bitcount("b") == 1
    assert client.bitpos("b", 1) == 7
    assert client.bitfield("f").set("u8", 0, 255).incrby("u8", 0, 10).execute() == [0, 9]
    client.set("{s}1", "abc")
    client.set("{s}2", "abd")
    assert client.bitop("XOR", "{s}x", "{s}1", "{s}2") == 3
    assert client.get("{s}x") == b"\0\0\x07"


def test_expiry(client):
    client.set("k", "v", px=60)
    assert 0 < client.pttl("k") <= 60
    wait_until(lambda: client.get("k") is None, 5, "key expires")
    assert client.ttl("k") == -2
    client.set("k", "v", ex=100)
    assert client.persist("k") is True
    assert client.ttl("k") == -1
    assert client.expire("k", 50) is True
    assert client.expire("k", 10, gt=True) is False
    assert 48 <= client.ttl("k") <= 50
    deadline = int(time.time()) + 1000
    assert client.expireat("k", deadline) is True
    assert client.expiretime("k") == deadline
    assert client.pexpiretime("k") == deadline * 1000
    assert client.getex("k", persist=True) == b"v"
    assert client.ttl("k") == -1


def test_keyspace(client):
    for i in range(300):
        client.set("key:%d" % i, i)
    assert client.dbsize() == 300
    assert len(set(client.scan_iter(match="key:1*", count=10))) == 111
    assert len(set(client.scan_iter())) == 300
    assert sorted(client.keys("key:29?")) == [b"key:29%d" % i for i in range(10)]
    assert client.randomkey().startswith(b"key:")
    assert client.type("key:1") == "string" or client.type("key:1") == b"string"
    client.set("{t}a", "1")
    assert client.rename("{t}a", "{t}b") is True
    assert client.copy("{t}b", "{t}c") is True
    assert client.touch("{t}b", "{t}c", "{t}a") == 2
    assert client.unlink("{t}b", "{t}c") == 2
    assert client.flushall() is True
    assert client.dbsize() == 0


def test_binary_keys_and_values(client):
    client.set(ALL_BYTES, ALL_BYTES)
    client.set("", "empty key")
    assert client.get(ALL_BYTES) == ALL_BYTES
    assert client.get(b"") == b"empty key"
    assert set(client.scan_iter()) == {ALL_BYTES, b""}
    client.set("empty", b"")
    assert client.get("empty") == b""
    assert client.strlen("empty") == 0
    assert client.exists("empty") == 1


@pytest.mark.timeout(120)
def test_64_mib_value(client):
    value = os.urandom(MIB) * 64
    assert client.set("large", value) is True
    assert client.strlen("large") == len(value)
    assert client.get("large") == value
    assert client.getrange("large", 33 * MIB - 5, 33 * MIB + 4) == value[33 * MIB - 5 : 33 * MIB + 5]
    assert client.append("large", "tail") == len(value) + 4
    assert client.getrange("large", -8, -1) == value[-4:] + b"tail"
    assert client.delete("large") == 1


@pytest.mark.parametrize("size", [0, 1, 15, 16383, 16384, 16385, 65535, 65536, MIB - 1, MIB, 3 * MIB + 1])
def test_value_sizes_around_buffer_edges(client, size):
    value = os.urandom(size)
    pipe = client.pipeline(transaction=False)
    pipe.set("size", value)
    pipe.get("size")
    pipe.strlen("size")
    assert pipe.execute() == [True, value, size]


def test_pipeline_without_transaction(client):
    pipe = client.pipeline(transaction=False)
    for i in range(5000):
        pipe.set("p:%d" % i, i)
        pipe.get("p:%d" % i)
    answers = pipe.execute()
    assert answers[0::2] == [True] * 5000
    assert answers[1::2] == [b"%d" % i for i in range(5000)]


@pytest.mark.timeout(20)
def test_pipeline_of_large_values_both_ways(client):
    """The library sends all of a pipeline before it reads: a node that stopped reading would never be read from."""
    pipe = client.pipeline(transaction=False)
    values = [os.urandom(MIB) for _ in range(24)]
    for number, value in enumerate(values):
        pipe.set("both:%d" % number, value).get("both:%d" % number)
    answers = pipe.execute()
    assert answers[0::2] == [True] * 24 and answers[1::2] == values


def test_pipeline_with_errors_in_it(client):
    client.set("text", "abc")
    pipe = client.pipeline(transaction=False)
    pipe.incr("text").set("ok", 1).execute_command("NOSUCH").get("ok")
    answers = pipe.execute(raise_on_error=False)
    assert isinstance(answers[0], redis.ResponseError)
    assert answers[1] is True
    assert isinstance(answers[2], redis.ResponseError)
    assert answers[3] == b"1"


def test_transaction(client):
    pipe = client.pipeline(transaction=True)
    pipe.set("{t}a", 1).incr("{t}a").get("{t}a").mget("{t}a", "{t}b")
    assert pipe.execute() == [True, 2, b"2", [b"2", None]]
    pipe = client.pipeline(transaction=True)
    pipe.set("{t}a", "x").incr("{t}a").set("{t}b", "after")
    answers = pipe.execute(raise_on_error=False)
    assert answers[0] is True and isinstance(answers[1], redis.ResponseError) and answers[2] is True
    pipe = client.pipeline(transaction=True)
    pipe.set("{t}a", 1).execute_command("GET")
    with pytest.raises(redis.ResponseError):
        pipe.execute()
    assert client.get("{t}a") == b"x", "an aborted transaction did nothing"


def test_watch(client, clean, protocol):
    other = redis.Redis(clean.host, clean.port, protocol=protocol)
    client.set("{w}k", 1)
    with client.pipeline() as pipe:
        pipe.watch("{w}k")
        value = int(pipe.get("{w}k"))
        pipe.multi()
        pipe.set("{w}k", value + 1)
        assert pipe.execute() == [True]
    with client.pipeline() as pipe:
        pipe.watch("{w}k")
        other.set("{w}k", 10)
        pipe.multi()
        pipe.set("{w}k", 11)
        with pytest.raises(redis.WatchError):
            pipe.execute()
    with client.pipeline() as pipe:
        pipe.watch("{w}absent")
        other.set("{w}absent", "now there")
        pipe.multi()
        pipe.get("{w}k")
        with pytest.raises(redis.WatchError):
            pipe.execute()
    assert client.get("{w}k") == b"10"
    other.close()


def test_watched_counter_under_contention(clean, protocol):
    """Optimistic increments from many threads: none may be lost."""

    def work():
        client = redis.Redis(clean.host, clean.port, protocol=protocol, socket_timeout=30)
        for _ in range(25):
            client.transaction(
                lambda pipe: (value := int(pipe.get("{w}n") or 0), pipe.multi(), pipe.set("{w}n", value + 1)), "{w}n"
            )
        client.close()

    run_threads([work] * 8)
    with redis.Redis(clean.host, clean.port) as client:
        assert client.get("{w}n") == b"200"


def run_threads(works):
    errors = []

    def guarded(work):
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
        assert not thread.is_alive(), "a client thread hangs"
    if errors:
        raise errors[0]


def next_message(pubsub, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        message = pubsub.get_message(timeout=1)
        if message:
            return message
    raise AssertionError("no message within %s s" % seconds)


def test_pubsub(client, clean, protocol):
    pubsub = client.pubsub()
    pubsub.subscribe("news", b"bin\0\xff")
    assert [next_message(pubsub)["data"] for _ in range(2)] == [1, 2]
    pubsub.psubscribe("n?ws", "other.*")
    assert [next_message(pubsub)["data"] for _ in range(2)] == [3, 4]
    assert client.publish("news", "hello") == 2
    got = [next_message(pubsub) for _ in range(2)]
    assert {(m["type"], m["pattern"], m["channel"], m["data"]) for m in got} == {
        ("message", None, b"news", b"hello"),
        ("pmessage", b"n?ws", b"news", b"hello"),
    }
    assert client.publish(b"bin\0\xff", b"\0\r\n") == 1
    assert next_message(pubsub)["data"] == b"\0\r\n"
    assert client.publish("nobody", "x") == 0
    assert sorted(client.pubsub_channels()) == [b"bin\0\xff", b"news"]
    assert client.pubsub_numsub("news", "nobody") == [(b"news", 1), (b"nobody", 0)]
    assert client.pubsub_numpat() == 2
    pubsub.unsubscribe()
    pubsub.punsubscribe()
    assert [next_message(pubsub)["type"] for _ in range(4)].count("unsubscribe") == 2
    assert client.publish("news", "x") == 0
    pubsub.close()


def test_pubsub_order_and_volume(client, clean, protocol):
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe("volume")
    wait_until(lambda: (pubsub.get_message(timeout=0.1), client.pubsub_numsub("volume")[0][1])[1] == 1, 10, "subscribed")
    pipe = client.pipeline(transaction=False)
    for i in range(3000):
        pipe.publish("volume", i)
    assert pipe.execute() == [1] * 3000
    assert [next_message(pubsub)["data"] for _ in range(3000)] == [b"%d" % i for i in range(3000)]
    pubsub.close()


def test_pubsub_message_does_not_break_replies_of_resp3_connection(clean):
    """RESP3 allows commands on a subscribed connection; pushes come between replies, never inside."""
    with clean.connect() as subscriber, clean.connect() as publisher:
        assert isinstance(subscriber("HELLO", "3"), dict)
        assert subscriber("SUBSCRIBE", "mixed") == [b"subscribe", b"mixed", 1]
        value = b"x" * 100_000
        subscriber("SET", "mixed:key", value)
        replies = pushes = 0
        for _ in range(50):
            subscriber.send_command("GET", "mixed:key")
            assert publisher("PUBLISH", "mixed", "m") == 1
        while replies < 50 or pushes < 50:
            got = subscriber.read()
            if isinstance(got, list):
                assert got == [b"message", b"mixed", b"m"]
                pushes += 1
            else:
                assert got == value
                replies += 1


def test_client_side_timeout_leaves_a_usable_server(clean, protocol):
    impatient = redis.Redis(
        clean.host, clean.port, protocol=protocol, socket_timeout=0.2, retry=None, single_connection_client=False
    )
    impatient.set("t", 1)
    with redis.Redis(clean.host, clean.port) as other:
        other.client_pause(600)
        with pytest.raises((redis.TimeoutError, redis.ConnectionError)):
            impatient.set("t", 2)
        other.client_unpause()
        patient = redis.Redis(clean.host, clean.port, protocol=protocol, socket_timeout=10)
        assert patient.set("t", 3) is True
        assert patient.get("t") == b"3"
        patient.close()
    impatient.close()


def test_decode_responses(clean, protocol):
    client = redis.Redis(clean.host, clean.port, protocol=protocol, decode_responses=True)
    client.set("ключ", "значение ✓")
    assert client.get("ключ") == "значение ✓"
    assert list(client.scan_iter()) == ["ключ"]
    assert client.info("server")["redis_version"].count(".") == 2
    client.close()


def test_pool_with_50_threads(clean, protocol):
    pool = redis.BlockingConnectionPool(
        host=clean.host, port=clean.port, protocol=protocol, max_connections=50, timeout=30, socket_timeout=30
    )
    client = redis.Redis(connection_pool=pool)

    def work(number):
        def run():
            for i in range(60):
                key, value = "pool:%d:%d" % (number, i), os.urandom(64)
                pipe = client.pipeline(transaction=False)
                pipe.set(key, value).get(key).incr("pool:count").delete(key)
                answers = pipe.execute()
                assert answers[0] is True and answers[1] == value and answers[3] == 1
        return run

    run_threads([work(number) for number in range(50)])
    assert client.get("pool:count") == b"3000"
    pool.disconnect()


def test_connection_commands(client, clean, protocol):
    assert client.ping() is True
    assert client.echo(b"\0\r\n") == b"\0\r\n"
    named = redis.Redis(clean.host, clean.port, protocol=protocol, client_name="tester")
    assert named.client_getname() in ("tester", b"tester")
    identity = named.client_id()
    listed = {entry["id"]: entry for entry in client.client_list()}
    assert listed[str(identity)]["name"] == "tester"
    assert listed[str(identity)]["resp"] == str(protocol) if "resp" in listed[str(identity)] else True
    assert client.client_kill_filter(_id=identity) == 1
    wait_until(lambda: str(identity) not in {c["id"] for c in client.client_list()}, 10, "killed client is gone")
    named.close()
    seconds, micros = client.time()
    assert abs(seconds + micros / 1e6 - time.time()) < 5
    assert client.config_get("maxmemory")["maxmemory"].isdigit()
    assert client.command_count() >= 90
    info = client.info()
    for field in ("redis_version", "uptime_in_seconds", "connected_clients", "used_memory", "maxmemory",
                  "total_commands_processed", "keyspace_hits", "keyspace_misses", "evicted_keys", "expired_keys",
                  "role", "used_cpu_sys", "used_cpu_user", "instantaneous_ops_per_sec", "maxmemory_policy"):
        assert field in info, field
    client.set("here", 1)
    assert client.info("keyspace")["db0"]["keys"] == 1
    assert client.memory_usage("here") > 0
    assert client.slowlog_len() >= 0
    assert client.slowlog_reset() is True
