"""redis-py, asyncio."""

import asyncio
import os

import pytest
import redis.asyncio as redis

from harness.node import MIB


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def protocol(request):
    return request.param


def run(node, protocol, scenario, **options):
    """Runs one scenario with a client of its own and a limit on the whole."""

    async def main():
        client = redis.Redis(host=node.host, port=node.port, protocol=protocol, socket_timeout=30, **options)
        try:
            await asyncio.wait_for(scenario(client), 50)
        finally:
            await client.aclose()

    asyncio.run(main())


def test_basics(clean, protocol):
    async def scenario(client):
        assert await client.set("k", b"\0v") is True
        assert await client.get("k") == b"\0v"
        assert await client.mget("k", "absent") == [b"\0v", None]
        assert await client.incrby("n", 5) == 5
        assert await client.delete("k", "n") == 2

    run(clean, protocol, scenario)


def test_pipeline_and_transaction(clean, protocol):
    async def scenario(client):
        async with client.pipeline(transaction=False) as pipe:
            for i in range(2000):
                pipe.set("a:%d" % i, i)
                pipe.get("a:%d" % i)
            answers = await pipe.execute()
        assert answers[1::2] == [b"%d" % i for i in range(2000)]
        async with client.pipeline(transaction=True) as pipe:
            pipe.set("{x}1", 1).incr("{x}1").get("{x}1")
            assert await pipe.execute() == [True, 2, b"2"]

    run(clean, protocol, scenario)


def test_200_tasks_over_a_pool(clean, protocol):
    async def scenario(client):
        async def task(number):
            for i in range(20):
                key, value = "task:%d:%d" % (number, i), os.urandom(100)
                assert await client.set(key, value) is True
                assert await client.get(key) == value
                await client.incr("task:count")

        await asyncio.gather(*(task(number) for number in range(200)))
        assert await client.get("task:count") == b"4000"

    run(clean, protocol, scenario, max_connections=300)


def test_pubsub(clean, protocol):
    async def scenario(client):
        async with client.pubsub() as pubsub:
            await pubsub.subscribe("ch")
            await pubsub.psubscribe("c*")
            kinds = []
            while len(kinds) < 2:
                message = await pubsub.get_message(timeout=5)
                kinds.append(message["type"])
            assert kinds == ["subscribe", "psubscribe"]
            assert await client.publish("ch", b"\xff") == 2
            got = set()
            while len(got) < 2:
                message = await pubsub.get_message(timeout=5)
                if message:
                    assert message["data"] == b"\xff"
                    got.add(message["type"])
            assert got == {"message", "pmessage"}

    run(clean, protocol, scenario)


def test_scan_iter(clean, protocol):
    async def scenario(client):
        await client.mset({"scan:%d" % i: i for i in range(1000)})
        seen = set()
        async for key in client.scan_iter(match="scan:*", count=50):
            seen.add(key)
        assert len(seen) == 1000

    run(clean, protocol, scenario)


def test_watch(clean, protocol):
    async def scenario(client):
        async def increment(pipe):
            value = int(await pipe.get("{w}n") or 0)
            pipe.multi()
            pipe.set("{w}n", value + 1)

        await asyncio.gather(*(client.transaction(increment, "{w}n") for _ in range(30)))
        assert await client.get("{w}n") == b"30"

    run(clean, protocol, scenario)


@pytest.mark.timeout(120)
def test_large_and_empty_values(clean, protocol):
    async def scenario(client):
        large = os.urandom(MIB) * 64
        assert await client.set("large", large) is True
        assert await client.get("large") == large
        assert await client.set("empty", b"") is True
        assert await client.get("empty") == b""
        await client.delete("large")

    run(clean, protocol, scenario)


def test_cancelled_requests_do_not_hurt_others(clean, protocol):
    async def scenario(client):
        value = os.urandom(4 * MIB)
        await client.set("big", value)
        tasks = [asyncio.create_task(client.get("big")) for _ in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(answer == value for answer in answers[1::2])
        assert await client.get("big") == value

    run(clean, protocol, scenario)
