// node-redis against one node, RESP2 and RESP3.
import { createClient, RESP_TYPES } from 'redis';
import { assert, host, noise, port, run, test, until } from './checks.mjs';

async function withClient(body, options = {}) {
  const client = createClient({ socket: { host, port, reconnectStrategy: false }, ...options });
  client.on('error', () => {});
  await client.connect();
  try {
    return await body(client);
  } finally {
    client.destroy();
  }
}

const buffers = (client) => client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });

for (const RESP of [2, 3]) {
  test(`strings and errors, RESP${RESP}`, () => withClient(async (client) => {
    await client.flushAll();
    assert.equal(await client.set('k', 'v'), 'OK');
    assert.equal(await client.get('k'), 'v');
    assert.equal(await client.get('absent'), null);
    assert.equal(await client.incrBy('n', 3), 3);
    assert.deepEqual(await client.mGet(['k', 'n', 'absent']), ['v', '3', null]);
    assert.equal(await client.set('k', 'w', { expiration: { type: 'PX', value: 5000 }, condition: 'XX' }), 'OK');
    assert.ok((await client.pTTL('k')) > 0);
    await assert.rejects(client.sendCommand(['NOSUCH']), /unknown command 'NOSUCH'/);
  }, { RESP }));

  test(`implicit pipeline keeps order, RESP${RESP}`, () => withClient(async (client) => {
    const answers = await Promise.all(Array.from({ length: 3000 }, (_, i) =>
      i % 2 ? client.get(`p:${i - 1}`) : client.set(`p:${i}`, String(i))));
    for (let i = 1; i < 3000; i += 2) assert.equal(answers[i], String(i - 1));
  }, { RESP }));

  test(`multi, RESP${RESP}`, () => withClient(async (client) => {
    assert.deepEqual(await client.multi().set('{m}a', '1').incr('{m}a').get('{m}a').exec(), ['OK', 2, '2']);
  }, { RESP }));

  test(`watch, RESP${RESP}`, () => withClient((client) => withClient(async (other) => {
    await client.watch('{w}k');
    await other.set('{w}k', String(Math.random()));
    await assert.rejects(client.multi().set('{w}k', 'mine').exec(), /watched keys/i);
  }), { RESP }));

  test(`pub/sub, RESP${RESP}`, () => withClient((sub) => withClient(async (pub) => {
    const got = [];
    await sub.subscribe('ch', (message, channel) => got.push([channel, message.toString('hex')]), true);
    await sub.pSubscribe('c*', (message, channel) => got.push([`${channel}/p`, message]));
    assert.equal(await pub.publish('ch', Buffer.from('00ff41', 'hex')), 2);
    await until(() => got.length === 2, 'both messages');
    await sub.unsubscribe('ch');
    await sub.pUnsubscribe('c*');
    assert.equal(await pub.publish('ch', 'x'), 0);
  }), { RESP }));

  test(`binary and big values, RESP${RESP}`, () => withClient(async (client) => {
    const raw = buffers(client);
    for (const size of [0, 1, 65536, (1 << 20) + 3, 64 << 20]) {
      const value = noise(size, size + RESP);
      assert.equal(await client.set(Buffer.from([0, 255, 13, 10]), value), 'OK');
      assert.ok(value.equals(await raw.get(Buffer.from([0, 255, 13, 10]))), `size ${size}`);
    }
    await client.del(Buffer.from([0, 255, 13, 10]));
  }, { RESP }));

  test(`scan iterator and info, RESP${RESP}`, () => withClient(async (client) => {
    await client.flushAll();
    await client.mSet(Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`s:${i}`, `${i}`])));
    const seen = new Set();
    for await (const keys of client.scanIterator({ MATCH: 's:*', COUNT: 50 })) keys.forEach((key) => seen.add(key));
    assert.equal(seen.size, 500);
    assert.match(await client.info('server'), /redis_version/);
    assert.equal(typeof (await client.clientId()), 'number');
  }, { RESP }));
}

await run();
