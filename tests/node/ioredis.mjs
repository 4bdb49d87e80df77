// ioredis against one node.
import Redis from 'ioredis';
import { assert, host, noise, port, run, test, until } from './checks.mjs';

const open = (options = {}) => new Redis({ host, port, maxRetriesPerRequest: 1, retryStrategy: null, ...options });

async function withClient(body, options) {
  const client = open(options);
  try {
    return await body(client);
  } finally {
    client.disconnect();
  }
}

test('connects with its ready check', () => withClient(async (client) => {
  if (client.status !== 'ready') await new Promise((resolve) => client.once('ready', resolve));
  assert.equal(await client.ping(), 'PONG');
}));

test('strings and errors', () => withClient(async (client) => {
  await client.flushall();
  assert.equal(await client.set('k', 'v'), 'OK');
  assert.equal(await client.get('k'), 'v');
  assert.equal(await client.get('absent'), null);
  assert.equal(await client.set('k', 'w', 'PX', 5000, 'XX', 'GET'), 'v');
  assert.equal(await client.incrby('n', 7), 7);
  assert.deepEqual(await client.mget('k', 'n', 'absent'), ['w', '7', null]);
  assert.equal(await client.mset({ a: '1', b: '2' }), 'OK');
  assert.equal(await client.del('a', 'b', 'k', 'n'), 4);
  await assert.rejects(client.call('GET'), /wrong number of arguments for 'get' command/);
  await assert.rejects(client.call('NOSUCH'), /unknown command 'NOSUCH'/);
}));

test('pipeline keeps order', () => withClient(async (client) => {
  const pipeline = client.pipeline();
  for (let i = 0; i < 3000; i++) pipeline.set(`p:${i}`, i).get(`p:${i}`);
  const answers = await pipeline.exec();
  assert.equal(answers.length, 6000);
  for (let i = 0; i < 3000; i++) assert.deepEqual(answers[2 * i + 1], [null, String(i)]);
}));

test('multi and exec', () => withClient(async (client) => {
  const answers = await client.multi().set('{t}a', '1').incr('{t}a').get('{t}a').exec();
  assert.deepEqual(answers, [[null, 'OK'], [null, 2], [null, '2']]);
  await assert.rejects(client.multi().set('{t}a').exec(), /EXECABORT/);
}));

test('watch sees a change', () => withClient(async (client) => {
  await withClient(async (other) => {
    await client.watch('{w}k');
    await other.set('{w}k', 'changed');
    assert.equal(await client.multi().set('{w}k', 'mine').exec(), null);
    assert.equal(await client.get('{w}k'), 'changed');
  });
}));

test('pub/sub with patterns', () => withClient((sub) => withClient(async (pub) => {
  const got = [];
  sub.on('messageBuffer', (channel, message) => got.push(['message', channel.toString(), message.toString('hex')]));
  sub.on('pmessageBuffer', (pattern, channel, message) =>
    got.push([pattern.toString(), channel.toString(), message.toString('hex')]));
  assert.equal(await sub.subscribe('news'), 1);
  assert.equal(await sub.psubscribe('n*'), 2);
  assert.equal(await pub.publish('news', Buffer.from([0, 255])), 2);
  await until(() => got.length === 2, 'both messages');
  assert.deepEqual(got.sort(), [['message', 'news', '00ff'], ['n*', 'news', '00ff']].sort());
  assert.equal(await sub.unsubscribe('news'), 1);
})));

test('binary keys and values', () => withClient(async (client) => {
  const every = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
  await client.set(every, every);
  assert.deepEqual(await client.getBuffer(every), every);
  await client.set('empty', '');
  assert.equal(await client.get('empty'), '');
  await client.set('', 'empty key');
  assert.equal(await client.get(''), 'empty key');
}));

test('big buffers', () => withClient(async (client) => {
  for (const size of [1 << 16, (1 << 20) + 1, 64 << 20]) {
    const value = noise(size, size);
    assert.equal(await client.set('big', value), 'OK');
    assert.ok(value.equals(await client.getBuffer('big')), `size ${size}`);
  }
  await client.del('big');
}));

test('autopipelining', () => withClient(async (client) => {
  await Promise.all(Array.from({ length: 2000 }, (_, i) => client.set(`auto:${i}`, i)));
  const values = await Promise.all(Array.from({ length: 2000 }, (_, i) => client.get(`auto:${i}`)));
  values.forEach((value, i) => assert.equal(value, String(i)));
}, { enableAutoPipelining: true }));

test('scan stream', () => withClient(async (client) => {
  await client.flushall();
  const pipeline = client.pipeline();
  for (let i = 0; i < 1000; i++) pipeline.set(`s:${i}`, i);
  await pipeline.exec();
  const seen = new Set();
  for await (const keys of client.scanStream({ match: 's:*', count: 100 })) keys.forEach((key) => seen.add(key));
  assert.equal(seen.size, 1000);
}));

test('fifty connections', async () => {
  const clients = Array.from({ length: 50 }, () => open());
  try {
    await Promise.all(clients.map(async (client, n) => {
      for (let i = 0; i < 20; i++) {
        await client.set(`c:${n}`, `${n}:${i}`);
        assert.equal(await client.get(`c:${n}`), `${n}:${i}`);
      }
    }));
  } finally {
    clients.forEach((client) => client.disconnect());
  }
});

test('info and client commands', () => withClient(async (client) => {
  assert.match(await client.info(), /redis_version:\d+\.\d+/);
  assert.equal(await client.client('SETNAME', 'io'), 'OK');
  assert.equal(await client.client('GETNAME'), 'io');
  assert.match(await client.client('LIST'), /name=io/);
  assert.ok((await client.command('COUNT')) >= 90);
}));

await run();
