"""Keys of several cores behind one connection: order of replies, splits and joins, whole-node commands."""

import random
import threading
import time

import pytest

from harness.node import wait_until
from harness.resp import ReplyError, encode


def value_of(key, version):
    """A value that tells whose it is: a reply for another key or of another time shows at once."""
    head = b"%s|%d|" % (key, version)
    return head + bytes((len(head) * 7 + version + i) & 0xFF for i in range(version * 37 % 300))


@pytest.mark.parametrize("seed", range(4))
def test_pipelines_keep_order_and_see_their_own_writes(clean, seed):
    """Random pipelines over many keys against a model; every reply is predicted."""
    draw = random.Random(seed)
    model, version = {}, 0
    keys = [b"key:%d" % number for number in range(60)]
    with clean.connect() as connection:
        for _ in range(120):
            commands, expected = [], []
            for _ in range(draw.randrange(1, 200)):
                key, version = draw.choice(keys), version + 1
                way = draw.randrange(9)
                if way <= 2:
                    commands.append((b"GET", key))
                    expected.append(model.get(key))
                elif way == 3:
                    model[key] = value_of(key, version)
                    commands.append((b"SET", key, model[key]))
                    expected.append(b"OK")
                elif way == 4:
                    commands.append((b"DEL", key))
                    expected.append(1 if model.pop(key, None) is not None else 0)
                elif way == 5:
                    several = draw.sample(keys, draw.randrange(1, 20))
                    commands.append((b"MGET", *several))
                    expected.append([model.get(one) for one in several])
                elif way == 6:
                    several = draw.sample(keys, draw.randrange(1, 10))
                    pairs = [(one, value_of(one, version)) for one in several]
                    model.update(pairs)
                    commands.append((b"MSET", *[part for pair in pairs for part in pair]))
                    expected.append(b"OK")
                elif way == 7:
                    several = [draw.choice(keys) for _ in range(draw.randrange(1, 10))]
                    commands.append((draw.choice([b"EXISTS", b"TOUCH"]), *several))
                    expected.append(sum(one in model for one in several))
                else:
                    several = draw.sample(keys, draw.randrange(1, 6))
                    commands.append((b"UNLINK", *several))
                    expected.append(sum(model.pop(one, None) is not None for one in several))
            assert connection.pipeline(commands) == expected
        assert connection("DBSIZE") == len(model)


def test_interleaved_connections(clean):
    """Eight connections write and read their own keys in deep pipelines; nothing gets mixed up."""
    errors = []

    def work(worker):
        draw, version = random.Random(worker), 0
        try:
            with clean.connect() as connection:
                for _ in range(40):
                    commands, expected = [], []
                    for _ in range(100):
                        key, version = b"w%d:%d" % (worker, draw.randrange(1000)), version + 1
                        commands += [(b"SET", key, value_of(key, version)), (b"GET", key), (b"PING", b"%d" % version)]
                        expected += [b"OK", value_of(key, version), b"%d" % version]
                    assert connection.pipeline(commands) == expected
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(worker,), daemon=True) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert not errors, errors[0]


def test_large_values_among_small_ones_keep_order(clean):
    large = bytes(range(256)) * 8192
    with clean.connect() as connection:
        for number in range(8):
            connection("SET", "large:%d" % number, large)
            connection("SET", "small:%d" % number, b"%d" % number)
        commands = [(b"GET", (b"large:%d" if i % 3 == 0 else b"small:%d") % (i % 8)) for i in range(120)]
        expected = [large if i % 3 == 0 else b"%d" % (i % 8) for i in range(120)]
        assert connection.pipeline(commands) == expected


def test_counters_from_many_connections(clean):
    def work():
        with clean.connect() as connection:
            for _ in range(20):
                connection.pipeline([("INCR", "count:%d" % (i % 10)) for i in range(100)])

    threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    with clean.connect() as connection:
        assert connection("MGET", *["count:%d" % i for i in range(10)]) == [b"1600"] * 10


def test_msetnx_is_all_or_nothing(clean):
    with clean.connect() as connection:
        names = ["n:%d" % i for i in range(20)]
        pairs = [part for name in names for part in (name, "first")]
        if clean.options.cores > 1:
            # All or nothing over several cores is refused rather than promised in vain (docs/adr/0003).
            reply = connection("MSETNX", *pairs)
            assert "CROSSSLOT" in str(reply), reply
            assert connection("EXISTS", *names) == 0
            names = ["{n}:%d" % i for i in range(20)]
            pairs = [part for name in names for part in (name, "first")]
        assert connection("MSETNX", *pairs) == 1
        connection("DEL", *names[1:])
        assert connection("MSETNX", *pairs) == 0
        assert connection("EXISTS", *names) == 1


def test_mset_pairs_are_never_seen_torn(clean):
    """MSET of keys on several cores against MGET: Redis is atomic here; what we promise must hold."""
    stop, errors, rounds = time.monotonic() + 2, [], [0]

    def write(worker):
        with clean.connect() as connection:
            while time.monotonic() < stop:
                rounds[0] += 1
                number = b"%d:%d" % (worker, rounds[0])
                connection("MSET", "{p}a", number, "{p}b", number, "{p}c", number)

    writers = [threading.Thread(target=write, args=(worker,), daemon=True) for worker in range(3)]
    for writer in writers:
        writer.start()
    with clean.connect() as connection:
        while time.monotonic() < stop:
            seen = connection("MGET", "{p}a", "{p}b", "{p}c")
            if len(set(seen)) != 1:
                errors.append(seen)
    for writer in writers:
        writer.join(20)
    assert not errors, "keys of one slot seen torn: %r" % errors[0]


def test_multi_key_commands_over_shards(clean):
    with clean.connect() as connection:
        for number in range(20):
            assert connection("SET", "from:%d" % number, "v%d" % number, "EX", 1000) == b"OK"
            assert connection("RENAME", "from:%d" % number, "to:%d" % number) == b"OK"
            assert connection("GET", "to:%d" % number) == b"v%d" % number
            assert 990 <= connection("TTL", "to:%d" % number) <= 1000
            assert connection("EXISTS", "from:%d" % number) == 0
            assert connection("COPY", "to:%d" % number, "copy:%d" % number) == 1
            assert connection("GET", "copy:%d" % number) == b"v%d" % number
            assert connection("RENAMENX", "to:%d" % number, "copy:%d" % number) == 0
        assert connection("RENAME", "absent", "x") == ReplyError("ERR no such key")
        for number in range(10):
            connection("SET", "bits:%d" % number, bytes([1 << (number % 8)]))
        assert connection("BITOP", "OR", "bits:all", *["bits:%d" % n for n in range(8)]) == 1
        assert connection("GET", "bits:all") == b"\xff"


def keys_of_one_and_of_other_slot():
    return "{same}a", "{same}b", "elsewhere"


def test_transactions_of_one_shard(clean):
    a, b, _ = keys_of_one_and_of_other_slot()
    with clean.connect() as connection:
        for round_ in range(50):
            tag = "{t%d}" % round_
            answers = connection.pipeline([
                ("MULTI",), ("SET", tag + "a", "1"), ("INCR", tag + "a"), ("MGET", tag + "a", tag + "b"),
                ("DEL", tag + "a", tag + "b"), ("EXEC",), ("GET", a),
            ])
            assert answers == [b"OK", b"QUEUED", b"QUEUED", b"QUEUED", b"QUEUED", [b"OK", 2, [b"2", None], 1], None]


def test_transactions_over_shards_are_refused(clean, pinnace_only):
    a, _, other = keys_of_one_and_of_other_slot()
    with clean.connect() as connection:
        answers = connection.pipeline([("MULTI",), ("SET", a, "1"), ("SET", other, "2"), ("EXEC",)])
        assert any(isinstance(answer, ReplyError) and "CROSSSLOT" in str(answer) for answer in answers), answers
        assert connection("EXISTS", a, other) == 0, "nothing of a refused transaction happened"
        assert connection("SET", a, "after") == b"OK"


def test_transactions_are_isolated(clean):
    """EXEC against single commands from other connections: pairs move together."""
    stop, errors = time.monotonic() + 2, []

    def transfer(worker):
        draw = random.Random(worker)
        with clean.connect() as connection:
            while time.monotonic() < stop:
                amount = str(draw.randrange(1, 10))
                answers = connection.pipeline([("MULTI",), ("DECRBY", "{acc}a", amount), ("INCRBY", "{acc}b", amount), ("EXEC",)])
                if not isinstance(answers[3], list):
                    errors.append(answers)

    threads = [threading.Thread(target=transfer, args=(worker,), daemon=True) for worker in range(3)]
    for thread in threads:
        thread.start()
    with clean.connect() as connection:
        while time.monotonic() < stop:
            a, b = connection("MGET", "{acc}a", "{acc}b")
            if int(a or 0) + int(b or 0) != 0:
                errors.append((a, b))
    for thread in threads:
        thread.join(20)
    assert not errors, errors[0]


def scan_all(connection, *arguments):
    cursor, seen, calls = b"0", [], 0
    while True:
        cursor, keys = connection("SCAN", cursor, *arguments)
        seen += keys
        calls += 1
        if cursor == b"0":
            return seen
        assert calls < 200_000, "the scan does not end"


@pytest.mark.parametrize("count", [1, 10, 1000, 1_000_000])
def test_scan_is_complete(clean, count):
    number = 300 if count == 1 else 5000
    with clean.connect() as connection:
        connection.pipeline([("SET", "scan:%d" % i, i) for i in range(number)])
        seen = scan_all(connection, "COUNT", count)
        assert set(seen) == {b"scan:%d" % i for i in range(number)}
        assert len(connection("KEYS", "*")) == number


def test_scan_finds_what_stays_while_the_table_grows(clean):
    """Keys that are there from start to end are found, whatever comes and goes meanwhile."""
    stays = {b"stays:%d" % i for i in range(3000)}
    halt, errors = threading.Event(), []

    def grow():
        try:
            with clean.connect() as connection:
                for start in range(0, 400_000, 500):
                    if halt.is_set():
                        return
                    connection.pipeline([("SET", "comes:%d" % i, "x") for i in range(start, start + 500)])
                    connection("DEL", *["comes:%d" % i for i in range(start, start + 250)])
        except BaseException as error:
            errors.append(error)

    with clean.connect() as connection:
        connection.pipeline([("SET", key, "x") for key in stays])
        grower = threading.Thread(target=grow, daemon=True)
        grower.start()
        for count in (10, 100, 1000):
            seen = set(scan_all(connection, "MATCH", "stays:*", "COUNT", count))
            assert seen == stays, "%d of %d missed" % (len(stays - seen), len(stays))
        halt.set()
        grower.join(30)
    assert not errors, errors[0]


def test_whole_node_commands(clean):
    with clean.connect() as connection:
        connection.pipeline([("SET", "all:%d" % i, "x", "EX", "1000") if i % 2 else ("SET", "all:%d" % i, "x")
                             for i in range(1000)])
        assert connection("DBSIZE") == 1000
        keyspace = connection("INFO", "keyspace")
        assert b"db0:keys=1000,expires=500" in keyspace, keyspace
        assert {connection("RANDOMKEY").split(b":")[0] for _ in range(50)} == {b"all"}
        assert len({connection("RANDOMKEY") for _ in range(100)}) > 20
        assert connection("FLUSHALL") == b"OK"
        assert connection("DBSIZE") == 0
        assert connection("RANDOMKEY") is None
        assert connection("MGET", *["all:%d" % i for i in range(100)]) == [None] * 100


def test_flushall_in_a_pipeline_is_a_barrier(clean):
    """What is sent before it is gone, what is sent behind it stays: on every core."""
    with clean.connect() as connection:
        for round_ in range(20):
            before = [("SET", "f:%d" % i, "before") for i in range(50)]
            after = [("SET", "f:%d" % i, "after%d" % round_) for i in range(25)]
            reads = [("GET", "f:%d" % i) for i in range(50)]
            answers = connection.pipeline(before + [("FLUSHALL",), ("DBSIZE",)] + after + [("DBSIZE",)] + reads)
            assert answers[50:52] == [b"OK", 0]
            assert answers[77] == 25
            assert answers[78:] == [b"after%d" % round_] * 25 + [None] * 25


def test_publish_reaches_subscribers_of_every_core(clean):
    subscribers = [clean.connect() for _ in range(12)]
    for number, subscriber in enumerate(subscribers):
        assert subscriber("SUBSCRIBE", "wide")[2] == 1
        if number % 3 == 0:
            assert subscriber("PSUBSCRIBE", "w*")[2] == 2
    publishers = [clean.connect() for _ in range(4)]
    for number, publisher in enumerate(publishers):
        assert publisher("PUBLISH", "wide", "from %d" % number) == 16
        assert publisher("PUBSUB", "NUMSUB", "wide") == [b"wide", 12]
        assert publisher("PUBSUB", "CHANNELS", "wi?e") == [b"wide"]
        assert publisher("PUBSUB", "NUMPAT") == 1
    for number, subscriber in enumerate(subscribers):
        kinds = 2 if number % 3 == 0 else 1
        got = [subscriber.read()[-1] for _ in range(4 * kinds)]
        assert sorted(got) == sorted([b"from %d" % n for n in range(4)] * kinds)
    for connection in subscribers + publishers:
        connection.close()


def test_messages_of_one_publisher_keep_their_order(clean):
    subscribers = [clean.connect() for _ in range(6)]
    for subscriber in subscribers:
        subscriber("SUBSCRIBE", "ordered")
    with clean.connect() as publisher:
        publisher.pipeline([("PUBLISH", "ordered", number) for number in range(2000)])
    for subscriber in subscribers:
        assert [subscriber.read()[2] for _ in range(2000)] == [b"%d" % n for n in range(2000)]
        subscriber.close()


def test_client_list_and_kill_over_cores(clean):
    crowd = [clean.connect() for _ in range(16)]
    identities = []
    for number, connection in enumerate(crowd):
        assert connection("CLIENT", "SETNAME", "crowd-%d" % number) == b"OK"
        identities.append(connection("CLIENT", "ID"))
    assert len(set(identities)) == 16 and min(identities) > 0
    with clean.connect() as admin:
        listed = admin("CLIENT", "LIST").decode()
        names = [field for line in listed.splitlines() for field in line.split() if field.startswith("name=crowd-")]
        assert sorted(names) == sorted("name=crowd-%d" % n for n in range(16))
        assert int(clean.info("clients")["connected_clients"]) == 18
        for identity in identities[:8]:
            assert admin("CLIENT", "KILL", "ID", identity) == 1
            assert admin("CLIENT", "KILL", "ID", identity) == 0
        for connection in crowd[:8]:
            assert connection.is_closed_by_peer()
        assert admin("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") == 8
        for connection in crowd[8:]:
            assert connection.is_closed_by_peer()
        wait_until(lambda: len(admin("CLIENT", "LIST").splitlines()) == 1, 10, "only the one that asks is left")


def test_client_pause_holds_every_core(clean):
    with clean.connect() as admin, clean.connect() as writer:
        keys = ["pause:%d" % i for i in range(40)]
        assert admin("CLIENT", "PAUSE", "20000", "WRITE") == b"OK"
        started = time.monotonic()
        assert writer.pipeline([("GET", key) for key in keys]) == [None] * 40, "reads go on"
        writer.send(b"".join(encode("SET", key, "x") for key in keys))
        with pytest.raises(TimeoutError):
            writer.sock.settimeout(0.3)
            writer.read()
        writer.sock.settimeout(20)
        assert admin("CLIENT", "UNPAUSE") == b"OK"
        assert [writer.read() for _ in keys] == [b"OK"] * 40
        assert time.monotonic() - started < 15


def test_config_set_holds_on_every_core(clean):
    with clean.connect() as admin:
        assert admin("CONFIG", "SET", "slowlog-log-slower-than", "12345") == b"OK"
    try:
        for _ in range(8):
            with clean.connect() as connection:
                assert connection("CONFIG", "GET", "slowlog-log-slower-than") == [b"slowlog-log-slower-than", b"12345"]
    finally:
        with clean.connect() as admin:
            assert admin("CONFIG", "SET", "slowlog-log-slower-than", "10000") == b"OK"


def test_info_counts_the_whole_node(clean):
    with clean.connect() as connection:
        connection("CONFIG", "RESETSTAT")
    for _ in range(8):
        with clean.connect() as connection:
            connection.pipeline([("SET", "i:%d" % i, "x") for i in range(50)] + [("GET", "i:%d" % i) for i in range(75)])
    info = clean.info("everything")
    assert int(info["keyspace_hits"]) == 400 and int(info["keyspace_misses"]) == 200
    assert info["cmdstat_set"].startswith("calls=400,") and info["cmdstat_get"].startswith("calls=600,")
    assert int(info["total_commands_processed"]) >= 1000
    assert int(info["total_connections_received"]) >= 8
